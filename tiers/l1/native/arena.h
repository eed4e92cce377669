/* The L1 arena: raw replies under S3-FIFO in shared memory, with the tokens of coherence.
 *
 * The readable twin, _arena_py.py, describes each operation and its reason. The parts here:
 *   arena_memory.h  the mapping, its parts and its locks
 *   arena_log.h     segments, the logs small and main
 *   arena_index.h   from a key's hash to its entries
 *
 * All workers may do these at the same time:
 *   get         takes no lock. It reads, then checks that nothing changed meanwhile.
 *   invalidate  writes a new token first: from then on no old reply can be served or stored.
 *               Removing the entry (lock of its stripe) only frees its slot.
 *   commit      locks the logs, then one stripe at a time. An entry carries the token of its
 *               fill, and is served only while that token is current.
 */

#ifndef TERRACE_ARENA_H
#define TERRACE_ARENA_H

#include "arena_index.h"
#include "arena_stats.h"
#include "siphash.h"

#define ARENA_SMALL_SHARE 0.10    /* of the room, as in the paper and the twin */
#define ARENA_LARGEST_SHARE 0.10
#define ARENA_PROMOTE_TOUCHES 2
#define ARENA_ROUNDS_MAX 256      /* entries given another round by one insert: no long pause */
#define ARENA_READS_MAX 16        /* attempts to read a stripe that keeps changing */
#define ARENA_GHOST_WAYS 16

/* Tokens. Of the 64 bits an entry stores the worker (8) and the counter (40); the generation is
 * that of its stripe. */

static inline uint64_t arena_slot(const arena_t *a, uint64_t h) { return h & a->header->slot_mask; }

static inline uint64_t token_under(uint64_t stored, uint64_t generation) {
    return stored | (generation & 0xff) << ARENA_COUNTER_BITS;
}

static inline uint64_t arena_token48(uint64_t token) {
    return (token >> 48 & 0xff) << ARENA_COUNTER_BITS | (token & ARENA_COUNTER_MASK);
}

static void arena_renew_tokens(arena_t *a);

/* Unique: a worker continues to count where the previous one in its column stopped. */
static uint64_t arena_fresh(arena_t *a) {
    uint64_t number = a->me->next_token + 1;
    arena_store_release(&a->me->next_token, number);
    if (!(number & ARENA_COUNTER_MASK)) { /* once in 10^12: let none of the last round live on */
        arena_renew_tokens(a);
        return arena_fresh(a);
    }
    return (uint64_t)a->worker << 48 | (number & ARENA_COUNTER_MASK);
}

static void arena_renew_tokens(arena_t *a) {
    for (uint64_t slot = 0; slot <= a->header->slot_mask; slot++)
        arena_store_seen(a, &a->tokens[slot], arena_fresh(a));
}

static inline uint64_t arena_token(const arena_t *a, uint64_t h) {
    uint64_t stored = arena_load_acquire(&a->tokens[arena_slot(a, h)]);
    return token_under(stored, arena_load_acquire(&a->header->generation));
}

static inline uint8_t *arena_write_flags(const arena_t *a, uint64_t slot) {
    return a->write_flags + slot * a->header->write_stride;
}

static inline int arena_writing(const arena_t *a, uint64_t h) {
    const uint8_t *flags = arena_write_flags(a, arena_slot(a, h));
    uint32_t stride = a->header->write_stride;
    if (stride == 1) return arena_load_acquire(flags);
    if (stride == 2) return arena_load_acquire((const uint16_t *)flags) != 0;
    if (stride == 4) return arena_load_acquire((const uint32_t *)flags) != 0;
    for (uint32_t i = 0; i < stride; i += 8)
        if (arena_load_acquire((const uint64_t *)(flags + i))) return 1;
    return 0;
}

static inline uint64_t arena_hash(const arena_t *a, const char *key, size_t key_len) {
    return siphash13(a->header->seed, key, key_len);
}

/* Reading */

/* Whether the watermark of its filler covers this entry. Call it before reading its token: a token
 * that is current after the watermark was read is as of that watermark. The caller has checked
 * the bound on its own watermark. */
static inline int arena_vouched(const arena_t *a, const arena_entry *entry, double now) {
    if (entry->worker >= a->header->workers) return 0;
    arena_worker *filler = a->workers + entry->worker;
    if (a->max_staleness == INFINITY)
        return (uint16_t)arena_load_acquire(&filler->epoch) == entry->epoch;
    double asof = arena_load_double(&filler->asof), floor = arena_load_double(&a->header->floor);
    int is_live = arena_load_acquire(&filler->live) != 0;
    if ((uint16_t)arena_load_acquire(&filler->epoch) != entry->epoch) return 0;
    if (entry->worker == a->worker) return is_live && asof >= floor;
    if (now - asof > a->max_staleness / 3 || asof < floor)
        arena_store_double(&filler->wanted_at, now);
    return is_live && asof >= floor && now - asof <= a->max_staleness;
}

static inline void arena_touch(uint64_t *slot, uint64_t seen) {
    if (slot_touches(seen) < ARENA_TOUCHES_MAX)
        __atomic_compare_exchange_n(slot, &seen, seen + ARENA_TOUCH, 0, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
}

/* Whether surely nothing moved since `version` was read. */
static inline int stripe_stood_still(const arena_t *a, const arena_stripe *stripe,
                                     uint32_t version, uint64_t generation) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return arena_load(&stripe->version) == version
           && arena_load(&a->header->generation) == generation;
}

typedef struct {
    arena_entry entry;
    uint64_t *slot, slot_seen;
} arena_hit;

/* The length of the current reply, copied to `out` if it fits into `room`; -1: there is none.
 * `suspects`: with any deadline and epoch, if its token is current. */
static inline __attribute__((always_inline)) ptrdiff_t
arena_lookup(const arena_t *a, uint64_t h, const char *key, size_t key_len, const char *variant,
             size_t variant_len, double now, int suspects, char *out, size_t room,
             arena_hit *hit) {
    arena_stripe *stripe = a->stripes + stripe_number(a, h);
    uint64_t *slots = stripe_slots(a, stripe), *token = &a->tokens[arena_slot(a, h)];
    __builtin_prefetch(token); /* on its way while the entry is looked up */
    for (int attempt = 0; attempt < ARENA_READS_MAX; attempt++) {
        uint32_t version = arena_load_acquire(&stripe->version);
        uint64_t generation = arena_load_acquire(&a->header->generation);
        if (version & 1) {
            arena_pause();
            continue;
        }
        if (arena_load(&stripe->generation) != generation) return -1;
        arena_found found;
        arena_cursor reply;
        ptrdiff_t length = -1;
        uint64_t slot, i = stripe_seek(a, stripe, slots, h);
        for (; stripe_runs(a, slots, i, h, &slot); i++) {
            if (!entry_at(a, slot_offset(slot), &found) || !entry_has_key(a, &found, key, key_len)
                || !entry_has_variant(a, &found, variant, variant_len, &reply))
                continue;
            if ((suspects || (now * 1e6 < (double)found.entry.deadline_us
                              && arena_vouched(a, &found.entry, now)))
                && arena_token48(arena_load_acquire(token)) == found.entry.token)
                length = (ptrdiff_t)found.entry.reply_len;
            break;
        }
        if (length >= 0 && (size_t)length <= room && !arena_read(a, &reply, out, (size_t)length))
            continue;
        if (!stripe_stood_still(a, stripe, version, generation)) continue;
        if (length >= 0) hit->entry = found.entry, hit->slot = slots + i, hit->slot_seen = slot;
        return length;
    }
    return -1;
}

static ptrdiff_t arena_get(arena_t *a, uint64_t h, const char *key, size_t key_len,
                           const char *variant, size_t variant_len, double now, char *out,
                           size_t room) {
    arena_hit hit;
    ptrdiff_t length =
        arena_lookup(a, h, key, key_len, variant, variant_len, now, 0, out, room, &hit);
    if (length >= 0 && (size_t)length <= room) arena_touch(hit.slot, hit.slot_seen);
    return length;
}

/* Whether there is a current reply that a client has read; counts no touch. */
static int arena_is_hot(const arena_t *a, uint64_t h, const char *key, size_t key_len,
                        const char *variant, size_t variant_len, double now) {
    arena_hit hit;
    return arena_lookup(a, h, key, key_len, variant, variant_len, now, 0, NULL, 0, &hit) >= 0
           && (!hit.entry.unasked || slot_touches(hit.slot_seen));
}

static ptrdiff_t arena_peek(const arena_t *a, uint64_t h, const char *key, size_t key_len,
                            const char *variant, size_t variant_len, char *out, size_t room,
                            arena_entry *entry) {
    arena_hit hit;
    ptrdiff_t length =
        arena_lookup(a, h, key, key_len, variant, variant_len, 0, 1, out, room, &hit);
    if (length >= 0) *entry = hit.entry;
    return length;
}

/* The last watermark of the filler that covered a suspect; -1: it is no longer known. */
static double arena_suspect_asof(const arena_t *a, const arena_entry *entry) {
    if (entry->worker >= a->header->workers) return -1;
    arena_worker *filler = a->workers + entry->worker;
    double asof = arena_load_double(&filler->asof); /* before the epoch: a new one begins first */
    int is_live = arena_load_acquire(&filler->live) != 0;
    uint16_t epoch = (uint16_t)arena_load_acquire(&filler->epoch);
    return entry->epoch == (uint16_t)(epoch - !is_live) ? asof : -1;
}

/* From now on an entry is a hit only if its filler's watermark is not older than `instant`. */
static void arena_raise_floor(arena_t *a, double instant) {
    double seen = arena_load_double(&a->header->floor);
    while (seen < instant
           && !__atomic_compare_exchange(&a->header->floor, &seen, &instant, 0, __ATOMIC_SEQ_CST,
                                         __ATOMIC_RELAXED)) {}
}

/* The policy. All of it with the logs locked. */

static inline uint32_t ghost_mix(uint64_t h) { return (uint32_t)((h * 0x9e3779b97f4a7c15u) >> 32); }

/* Fingerprints of one bucket, the newest first. Two workers at once may lose one: no harm. */
static uint16_t *ghost_bucket(const arena_t *a, uint64_t h, uint16_t *fingerprint) {
    uint64_t buckets = arena_load(&a->header->ghost_buckets);
    *fingerprint = (uint16_t)(h >> 8) ? (uint16_t)(h >> 8) : 1;
    if (!buckets) return NULL;
    return a->ghost + ((ghost_mix(h) * buckets) >> 32) * ARENA_GHOST_WAYS;
}

static void ghost_put(const arena_t *a, uint64_t h) {
    uint16_t fingerprint, *bucket = ghost_bucket(a, h, &fingerprint);
    if (!bucket) return;
    memmove(bucket + 1, bucket, (ARENA_GHOST_WAYS - 1) * sizeof *bucket);
    bucket[0] = fingerprint;
}

static int ghost_take(const arena_t *a, uint64_t h) {
    uint16_t fingerprint, *bucket = ghost_bucket(a, h, &fingerprint);
    for (int i = 0; bucket && i < ARENA_GHOST_WAYS; i++)
        if (bucket[i] == fingerprint) {
            bucket[i] = 0;
            return 1;
        }
    return 0;
}

/* As many fingerprints as there are entries, about. */
static void ghost_fit(arena_t *a) {
    arena_header *header = a->header;
    double entries = (double)(header->small.bytes + header->main.bytes) / header->entry_bytes;
    uint64_t wanted = (uint64_t)entries / ARENA_GHOST_WAYS + 1;
    if (wanted > header->ghost_buckets_max) wanted = header->ghost_buckets_max;
    if (header->ghost_buckets * 2 >= wanted && header->ghost_buckets <= wanted * 2) return;
    memset(a->ghost, 0, wanted * ARENA_GHOST_WAYS * sizeof *a->ghost);
    arena_store(&header->ghost_buckets, wanted);
}

static void arena_average(arena_header *header, uint64_t size) {
    if (header->entry_bytes) header->entry_bytes += ((double)size - header->entry_bytes) / 256;
    else header->entry_bytes = (double)size;
}

/* The entry at the head of a log, its bytes in the scratch; NULL: no memory. */
static char *arena_lift(arena_t *a, const arena_log *log, arena_found *found, uint64_t *h) {
    uint64_t head = arena_head(a->header, log);
    if (!entry_at(a, head, found)) return NULL;
    uint64_t size = entry_bytes(found);
    char *bytes = arena_scratch(a, size);
    arena_cursor cursor = arena_cursor_at(a->header, head);
    if (!bytes || !arena_read(a, &cursor, bytes, size)) return NULL;
    *h = arena_hash(a, bytes + sizeof found->entry + 2 * found->entry.has_variant,
                    found->entry.key_len);
    return bytes;
}

/* Moves the entry in the scratch from the head of `from` to the tail of main. 0: no room there. */
static int arena_move(arena_t *a, arena_log *from, arena_found *found, const char *bytes,
                      uint64_t *slot, uint64_t h, unsigned touches) {
    arena_header *header = a->header;
    uint64_t size = entry_bytes(found);
    arena_consume(a, from, size);
    uint64_t more = arena_segments_for(header, &header->main, size);
    if (!arena_segments_fit(header, more, 0, 0)) return 0;
    uint64_t offset = arena_append(a, &header->main, size);
    if (offset == UINT64_MAX) return 0;
    arena_cursor cursor = arena_cursor_at(header, offset);
    found->entry.in_main = 1;
    arena_write(a, &cursor, &found->entry, sizeof found->entry);
    arena_write(a, &cursor, bytes + sizeof found->entry, size - sizeof found->entry);
    arena_store(slot, slot_of(h, touches, offset));
    return 1;
}

enum { ARENA_STUCK, ARENA_EVICTED, ARENA_MOVED };

/* Consumes the head of a log: drops it, or moves it to the tail of main. */
static int arena_evict_from(arena_t *a, arena_log *log, int may_move) {
    arena_header *header = a->header;
    arena_found found;
    uint64_t h, head = arena_head(header, log);
    const char *bytes = arena_lift(a, log, &found, &h);
    if (!bytes) return ARENA_STUCK;
    arena_stripe *stripe = a->stripes + stripe_number(a, h);
    if (!stripe_lock(a, stripe)) return ARENA_STUCK;
    uint64_t *slots = stripe_slots(a, stripe), size = entry_bytes(&found);
    uint64_t i = stripe_find_offset(a, stripe, h, head);
    if (i == UINT64_MAX) { /* a hole */
        stripe_unlock(stripe);
        arena_consume(a, log, size);
        return ARENA_MOVED;
    }
    ghost_fit(a);
    unsigned touches = slot_touches(arena_load(&slots[i]));
    int from_small = log == &header->small;
    int earned = touches >= (from_small ? ARENA_PROMOTE_TOUCHES : 1);
    int stands = arena_token48(arena_token(a, h)) == found.entry.token;
    if (earned && stands && may_move
        && arena_move(a, log, &found, bytes, &slots[i], h, from_small ? 0 : touches - 1)) {
        stripe_unlock(stripe);
        return ARENA_MOVED;
    }
    const char *key = bytes + sizeof found.entry + 2 * found.entry.has_variant;
    int in_main = 0;
    uint64_t others = 0;
    stripe_remove(a, stripe, slots, i);
    if (!stripe_entries_of(a, stripe, h, key, found.entry.key_len, 0, &in_main, &others))
        stripe->keys--;
    stripe_unlock(stripe);
    if (!(earned && stands && may_move)) arena_consume(a, log, size); /* else arena_move did */
    if (from_small || !stands) ghost_put(a, h);
    arena_add(a, ARENA_EVICTIONS, 1);
    return ARENA_EVICTED;
}

/* Evicts until `size` more bytes fit at the tail of `log`, beside `index_bytes` more of index. */
static int arena_make_room(arena_t *a, const arena_log *log, uint64_t size, uint64_t index_bytes) {
    arena_header *header = a->header;
    int rounds = 0;
    for (;;) {
        uint64_t more = log ? arena_segments_for(header, log, size) : 0;
        if (arena_segments_fit(header, more, log ? ARENA_SEGMENTS_SPARE : 0, index_bytes)) return 1;
        header->was_full = 1;
        int64_t room = arena_room(header) - (int64_t)index_bytes;
        int too_much = (double)header->small.bytes > (double)room * ARENA_SMALL_SHARE;
        arena_log *from = header->small.bytes && (too_much || !header->main.bytes) ? &header->small
                                                                                   : &header->main;
        if (!from->bytes) return 0;
        int moved = arena_evict_from(a, from, rounds < ARENA_ROUNDS_MAX);
        if (moved == ARENA_STUCK) return 0;
        rounds += moved == ARENA_MOVED;
    }
}

/* Filling */

static inline uint64_t arena_begin_fill(const arena_t *a, uint64_t h) {
    return arena_writing(a, h) ? 0 : arena_token(a, h);
}

static inline int arena_may_commit(const arena_t *a, uint64_t h, uint64_t token, uint32_t epoch) {
    return token == arena_token(a, h) && !arena_writing(a, h) && epoch == arena_load(&a->me->epoch);
}

/* Puts a new entry in place of the one it replaces, or of the oldest variant of its key if there
 * would be too many. 0: the index has no room. */
static int stripe_replace(arena_t *a, arena_stripe *stripe, uint64_t h, const char *key,
                          size_t key_len, const char *variant, size_t variant_len,
                          uint64_t offset, int unasked) {
    uint64_t *slots = stripe_slots(a, stripe), slot, oldest = UINT64_MAX;
    uint64_t i = stripe_seek(a, stripe, slots, h);
    unsigned before = 0, kept = 0, variants = 0, touches = 0;
    while (stripe_runs(a, slots, i, h, &slot)) {
        arena_found found;
        arena_cursor reply;
        if (entry_at(a, slot_offset(slot), &found) && entry_has_key(a, &found, key, key_len)) {
            before++;
            if (entry_has_variant(a, &found, variant, variant_len, &reply)) {
                touches = unasked ? 0 : slot_touches(slot);
                stripe_remove(a, stripe, slots, i);
                continue;
            }
            kept++;
            if (found.variant_len && !variants++) oldest = i;
        }
        i++;
    }
    if (variant_len && variants >= a->max_variants) {
        stripe_remove(a, stripe, slots, oldest);
        kept--;
    }
    int stored = stripe_insert(a, stripe, slot_of(h, touches, offset));
    stripe->keys += (kept || stored) - (before != 0);
    return stored;
}

/* Which log the new entry belongs to: that of its key's other entries, if any. */
static arena_log *arena_log_for(arena_t *a, arena_stripe *stripe, uint64_t h, const char *key,
                                size_t key_len) {
    arena_header *header = a->header;
    int in_main = 0;
    uint64_t bytes = 0;
    unsigned entries = 0;
    if (stripe->generation == header->generation)
        entries = stripe_entries_of(a, stripe, h, key, key_len, 0, &in_main, &bytes);
    if (entries) return in_main ? &header->main : &header->small;
    return !header->was_full || ghost_take(a, h) ? &header->main : &header->small;
}

static int arena_store_entry(arena_t *a, uint64_t h, const char *key, size_t key_len,
                             const char *variant, size_t variant_len, const char *reply,
                             size_t reply_len, uint64_t token, uint32_t epoch,
                             uint64_t deadline_us, int unasked) {
    arena_header *header = a->header;
    arena_entry entry = {.token = arena_token48(token), .deadline_us = deadline_us,
                         .reply_len = reply_len, .key_len = key_len, .epoch = epoch,
                         .worker = a->worker, .has_variant = variant_len != 0, .unasked = unasked != 0};
    uint16_t variant_size = (uint16_t)variant_len;
    uint64_t size = sizeof entry + 2 * entry.has_variant + key_len + variant_len + reply_len;
    arena_stripe *stripe = a->stripes + stripe_number(a, h);
    uint64_t grown = stripe_next_size(a, stripe, 0);
    uint64_t index_bytes = (grown - stripe->size) * 8;
    if ((double)(size + 8) > (double)arena_room(header) * ARENA_LARGEST_SHARE) return 0;

    arena_log *log = arena_log_for(a, stripe, h, key, key_len);
    if (!arena_make_room(a, log, size, index_bytes)) return 0;
    uint64_t offset = arena_append(a, log, size);
    if (offset == UINT64_MAX) return 0;
    entry.in_main = log == &header->main;
    arena_cursor cursor = arena_cursor_at(header, offset);
    arena_write(a, &cursor, &entry, sizeof entry);
    if (variant_len) arena_write(a, &cursor, &variant_size, 2);
    arena_write(a, &cursor, key, key_len);
    arena_write(a, &cursor, variant, variant_len);
    arena_write(a, &cursor, reply, reply_len);

    arena_average(header, size);

    /* From here on a failure leaves a hole. */
    if (!stripe_lock(a, stripe)) return 0;
    int stored = arena_may_commit(a, h, token, epoch)
                 && (stripe->size >= grown || stripe_grow(a, stripe, grown))
                 && stripe_replace(a, stripe, h, key, key_len, variant, variant_len, offset, unasked);
    stripe_unlock(stripe);
    arena_make_room(a, NULL, 0, 0); /* the index may have grown more than expected */
    return stored;
}

static int arena_commit(arena_t *a, uint64_t h, const char *key, size_t key_len,
                        const char *variant, size_t variant_len, const char *reply,
                        size_t reply_len, uint64_t token, uint32_t epoch, double deadline,
                        int unasked) {
    int stored = 0;
    if (token && arena_may_commit(a, h, token, epoch) && key_len <= ARENA_KEY_MAX
        && variant_len <= ARENA_KEY_MAX && reply_len <= UINT32_MAX && deadline > 0
        && arena_lock(a, &a->header->log_owner)) {
        double deadline_us = floor(deadline * 1e6);
        if (deadline_us > (double)ARENA_DEADLINE_MAX_US) deadline_us = (double)ARENA_DEADLINE_MAX_US;
        stored = arena_store_entry(a, h, key, key_len, variant, variant_len, reply, reply_len,
                                   token, epoch, (uint64_t)deadline_us, unasked);
        arena_unlock(&a->header->log_owner);
    }
    return stored;
}

/* Invalidating */

static void arena_drop(arena_t *a, uint64_t h, const char *key, size_t key_len) {
    arena_stripe *stripe = a->stripes + stripe_number(a, h);
    uint64_t slot, i = stripe_seek(a, stripe, stripe_slots(a, stripe), h), bytes = 0;
    if (!stripe_runs(a, stripe_slots(a, stripe), i, h, &slot) || !stripe_lock(a, stripe)) return;
    int in_main = 0;
    unsigned dropped = stripe_entries_of(a, stripe, h, key, key_len, 1, &in_main, &bytes);
    stripe_unlock(stripe);
    if (in_main) ghost_put(a, h); /* a refill returns to main */
    if (dropped) arena_add(a, ARENA_INVALIDATIONS, 1);
}

static void arena_invalidate(arena_t *a, uint64_t h, const char *key, size_t key_len) {
    arena_store_seen(a, &a->tokens[arena_slot(a, h)], arena_fresh(a));
    arena_drop(a, h, key, key_len);
}

static void arena_begin_write(arena_t *a, uint64_t h, const char *key, size_t key_len) {
    uint64_t slot = arena_slot(a, h);
    a->writes++;
    if (!a->in_flight[slot]++) arena_store_seen(a, arena_write_flags(a, slot) + a->worker, 1);
    arena_invalidate(a, h, key, key_len);
}

static void arena_end_write(arena_t *a, uint64_t h, const char *key, size_t key_len) {
    uint64_t slot = arena_slot(a, h);
    arena_invalidate(a, h, key, key_len);
    if (!a->in_flight[slot]) return; /* begun before this process had its number */
    a->writes--;
    if (!--a->in_flight[slot]) arena_store_seen(a, arena_write_flags(a, slot) + a->worker, 0);
}

/* O(1), but every 256th: tokens carry eight bits of the generation. */
static void arena_next_generation(arena_t *a) {
    uint64_t generation =
        __atomic_add_fetch(&a->header->generation, 1, __ATOMIC_SEQ_CST);
    if (!(generation & 0xff)) arena_renew_tokens(a);
}

/* No worker may put an entry into the new generation before the logs are reset: its memory would
 * be reused. So the logs are locked first. */
static void arena_flush(arena_t *a) {
    int locked = arena_lock(a, &a->header->log_owner);
    arena_next_generation(a);
    if (!locked) return; /* all entries became holes */
    arena_reset_logs(a);
    arena_unlock(&a->header->log_owner);
}

static uint32_t arena_bump_epoch_of(arena_t *a, uint32_t worker) {
    uint32_t epoch = __atomic_add_fetch(&a->workers[worker].epoch, 1, __ATOMIC_SEQ_CST);
    if (!(epoch & 0xffff)) arena_flush(a); /* entries keep sixteen bits of it */
    return epoch;
}

/* 0: another worker holds the lock of the logs; try again. */
static int arena_resize(arena_t *a, uint64_t max_bytes) {
    arena_header *header = a->header;
    if (!arena_lock(a, &header->log_owner)) return 0;
    header->max_bytes = max_bytes;
    int done = arena_make_room(a, NULL, 0, 0) || !(header->small.bytes + header->main.bytes);
#ifdef MADV_REMOVE
    for (uint32_t s = header->free_segment; s != UINT32_MAX; s = a->next[s])
        if (arena_segment_bytes(header) >= 4096)
            madvise(a->log + ((uint64_t)s << header->segment_shift), arena_segment_bytes(header),
                    MADV_REMOVE);
#endif
    arena_unlock(&header->log_owner);
    return done;
}

/* A worker died: its epoch ends, its writes in flight end, and the parts it had locked are cleared.
 * Its supervisor calls this before another worker takes its number. */
static void arena_clear_worker(arena_t *a, uint32_t worker) {
    arena_header *header = a->header;
    arena_t dead = *a; /* with its number: its locks are ours, and its tokens continue */
    dead.worker = worker;
    dead.me = a->workers + worker;
    dead.scratch = NULL, dead.scratch_bytes = 0;
    arena_store(&dead.me->live, 0);
    arena_bump_epoch_of(&dead, worker);
    for (uint64_t slot = 0; slot <= header->slot_mask; slot++) {
        uint8_t *flag = arena_write_flags(a, slot) + worker;
        if (!arena_load(flag)) continue;
        arena_store_seen(a, &a->tokens[slot], arena_fresh(&dead));
        arena_store_seen(a, flag, 0);
    }
    for (uint64_t i = 0; i <= header->stripe_mask; i++) {
        arena_stripe *stripe = a->stripes + i;
        if (arena_load_acquire(&stripe->owner) != worker + 1) continue;
        arena_store(&stripe->version, stripe->version | 1);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        memset(stripe_slots(a, stripe), 0, header->stripe_slots * 8);
        stripe->used = stripe->keys = 0;
        arena_store_release(&stripe->version, stripe->version + 1);
        arena_unlock(&stripe->owner);
    }
    if (arena_load_acquire(&header->log_owner) == worker + 1) { /* half moved: start over */
        arena_next_generation(&dead);
        memset(&header->small, 0, sizeof header->small);
        memset(&header->main, 0, sizeof header->main);
        header->free_segment = UINT32_MAX;
        header->fresh_segments = 0;
        header->was_full = 0;
        arena_unlock(&header->log_owner);
    }
    free(dead.scratch);
}

#endif
