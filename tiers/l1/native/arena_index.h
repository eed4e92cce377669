/* The index of the L1 arena: stripes of open-addressed 8-byte slots.
 *
 *   slot = tag 22 bits | touches 2 bits | offset of the entry + 1, 40 bits;   0: empty
 *
 * A slot's home is where its tag falls when the tags are spread evenly over the stripe
 * (tag * size >> 22), so a stripe in which displaced slots stay in order is sorted by tag as a
 * whole: a search ends at the first larger tag, absent keys cost no more than present ones, and
 * a stripe grows by a quarter in one sweep, without looking at any key. All entries of a key
 * (its variants) have one tag and stand side by side, the one filled last at the end.
 *
 * Readers hold no lock: `version` is odd while a stripe is being changed and has moved
 * afterwards (a seqlock). Touches are counted in the slot by compare-and-swap, which changes
 * nothing when the slot has changed: a reader never writes where an entry's bytes might be.
 */

#ifndef TERRACE_ARENA_INDEX_H
#define TERRACE_ARENA_INDEX_H

#include "arena_log.h"

#define ARENA_TAG_BITS 22
#define ARENA_OFFSET_MASK ((1ull << 40) - 1)
#define ARENA_TOUCH (1ull << 40)
#define ARENA_TOUCHES_MAX 3

static inline uint64_t slot_tag(uint64_t slot) { return slot >> ARENA_TAG_SHIFT; }
static inline unsigned slot_touches(uint64_t slot) { return (unsigned)(slot >> 40) & 3; }
static inline uint64_t slot_offset(uint64_t slot) { return (slot & ARENA_OFFSET_MASK) - 1; }

static inline uint64_t slot_of(uint64_t h, unsigned touches, uint64_t offset) {
    return (h >> ARENA_TAG_SHIFT) << ARENA_TAG_SHIFT | touches * ARENA_TOUCH | (offset + 1);
}

static inline uint64_t stripe_number(const arena_t *a, uint64_t h) {
    return (h >> ARENA_STRIPE_SHIFT) & a->header->stripe_mask;
}

static inline uint64_t *stripe_slots(const arena_t *a, const arena_stripe *stripe) {
    return a->index + (uint64_t)(stripe - a->stripes) * a->header->stripe_slots;
}

static inline uint64_t stripe_home(uint64_t size, uint64_t tag) {
    return (tag * size) >> ARENA_TAG_BITS;
}

/* Where to look first for this hash; the caller continues to the first empty slot or larger tag. */
static inline uint64_t stripe_seek(const arena_t *a, const arena_stripe *stripe,
                                   const uint64_t *slots, uint64_t h) {
    uint64_t tag = h >> ARENA_TAG_SHIFT, i = stripe_home(arena_load(&stripe->size), tag), slot;
    const uint64_t end = a->header->stripe_slots;
    while (i < end && (slot = arena_load(&slots[i])) && slot_tag(slot) < tag) i++;
    return i;
}

static inline int stripe_runs(const arena_t *a, const uint64_t *slots, uint64_t i, uint64_t h,
                              uint64_t *slot) {
    if (i >= a->header->stripe_slots) return 0;
    *slot = arena_load(&slots[i]);
    return *slot && slot_tag(*slot) == h >> ARENA_TAG_SHIFT;
}

/* To change a stripe: lock it, mark it as changing, and clear flushed entries first. */

static int stripe_lock(arena_t *a, arena_stripe *stripe) {
    if (!arena_lock(a, &stripe->owner)) return 0;
    arena_store(&stripe->version, stripe->version + 1);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    uint64_t generation = arena_load_acquire(&a->header->generation);
    if (stripe->generation != generation) {
        if (stripe->used)
            memset(stripe_slots(a, stripe), 0, (stripe->size + ARENA_OVERHANG) * 8);
        stripe->used = stripe->keys = 0;
        arena_store_release(&stripe->generation, generation);
    }
    return 1;
}

static void stripe_unlock(arena_stripe *stripe) {
    arena_store_release(&stripe->version, stripe->version + 1);
    arena_unlock(&stripe->owner);
}

/* All below: with the stripe locked. */

static void stripe_remove(const arena_t *a, arena_stripe *stripe, uint64_t *slots, uint64_t i) {
    const uint64_t end = a->header->stripe_slots;
    uint64_t slot;
    for (; i + 1 < end && (slot = slots[i + 1]); i++) {
        if (stripe_home(stripe->size, slot_tag(slot)) > i) break;
        arena_store(&slots[i], slot);
    }
    arena_store(&slots[i], 0);
    stripe->used--;
}

/* The size to grow to before one more entry is put in; `size` itself if there is room. */
static uint64_t stripe_next_size(const arena_t *a, const arena_stripe *stripe, int force) {
    uint64_t size = stripe->size, most = a->header->stripe_slots - ARENA_OVERHANG;
    if (!force && (stripe->used + 1) * 20ull <= size * 17) return size; /* 85 % full */
    uint64_t larger = size + (size / 4 > 16 ? size / 4 : 16);
    if (larger > 2048) larger = (larger + 511) & ~511ull; /* whole pages */
    return larger > most ? most : larger;
}

/* 0: no memory, or the displaced slots would not fit behind the last home. */
static int stripe_grow(arena_t *a, arena_stripe *stripe, uint64_t size) {
    uint64_t *slots = stripe_slots(a, stripe), used = 0, at = 0;
    uint64_t *kept = (uint64_t *)arena_scratch(a, stripe->used * 16ull + 16);
    if (!kept) return 0;
    uint64_t *places = kept + stripe->used;
    for (uint64_t i = 0; used < stripe->used; i++) {
        if (!slots[i]) continue;
        uint64_t home = stripe_home(size, slot_tag(slots[i]));
        if (at < home) at = home;
        if (at >= size + ARENA_OVERHANG) return 0;
        kept[used] = slots[i];
        places[used++] = at++;
    }
    memset(slots, 0, stripe->size ? (stripe->size + ARENA_OVERHANG) * 8ull : 0);
    for (uint64_t i = 0; i < used; i++) arena_store(&slots[places[i]], kept[i]);
    __atomic_fetch_add(&a->header->index_bytes, (size - stripe->size) * 8, __ATOMIC_RELAXED);
    arena_store(&stripe->size, (uint32_t)size);
    return 1;
}

/* Behind the slots of the same tag. 0: there is no room, and the stripe cannot grow. */
static int stripe_insert(arena_t *a, arena_stripe *stripe, uint64_t slot) {
    uint64_t *slots = stripe_slots(a, stripe), end = a->header->stripe_slots;
    for (;;) {
        uint64_t tag = slot_tag(slot), i = stripe_home(stripe->size, tag), free_at;
        while (i < end && slots[i] && slot_tag(slots[i]) <= tag) i++;
        for (free_at = i; free_at < end && slots[free_at]; free_at++) {}
        if (stripe->size && free_at < end && free_at < stripe->size + ARENA_OVERHANG) {
            for (; free_at > i; free_at--) arena_store(&slots[free_at], slots[free_at - 1]);
            arena_store(&slots[i], slot);
            stripe->used++;
            return 1;
        }
        uint64_t size = stripe_next_size(a, stripe, 1);
        if (size == stripe->size || !stripe_grow(a, stripe, size)) return 0;
    }
}

/* The position of the slot that points to this offset; UINT64_MAX: it is a hole. */
static uint64_t stripe_find_offset(const arena_t *a, const arena_stripe *stripe, uint64_t h,
                                   uint64_t offset) {
    const uint64_t *slots = stripe_slots(a, stripe);
    uint64_t slot;
    for (uint64_t i = stripe_seek(a, stripe, slots, h); stripe_runs(a, slots, i, h, &slot); i++)
        if (slot_offset(slot) == offset) return i;
    return UINT64_MAX;
}

/* The entry that a slot points to. A reader without a lock must not trust it before its check. */

typedef struct {
    arena_entry entry;
    uint16_t variant_len;
    arena_cursor key, variant; /* where they begin; the reply follows the variant */
} arena_found;

static inline int entry_at(const arena_t *a, uint64_t offset, arena_found *found) {
    if (offset >= (uint64_t)a->header->segments << a->header->segment_shift) return 0;
    arena_cursor cursor = arena_cursor_at(a->header, offset);
    if (!arena_read(a, &cursor, &found->entry, sizeof found->entry)) return 0;
    found->variant_len = 0;
    if (found->entry.has_variant && !arena_read(a, &cursor, &found->variant_len, 2)) return 0;
    found->key = cursor;
    return 1;
}

static inline uint64_t entry_bytes(const arena_found *found) {
    return sizeof found->entry + 2 * found->entry.has_variant + found->entry.key_len
           + found->variant_len + found->entry.reply_len;
}

static inline int entry_has_key(const arena_t *a, arena_found *found, const char *key,
                                size_t key_len) {
    found->variant = found->key;
    return found->entry.key_len == key_len && arena_equals(a, &found->variant, key, key_len);
}

/* After entry_has_key. `reply` is left where the reply begins. */
static inline int entry_has_variant(const arena_t *a, const arena_found *found,
                                    const char *variant, size_t variant_len, arena_cursor *reply) {
    *reply = found->variant;
    return found->variant_len == variant_len && arena_equals(a, reply, variant, variant_len);
}

/* How many entries this key has; with `remove`, none afterwards. `in_main`: one of them was. */
static unsigned stripe_entries_of(arena_t *a, arena_stripe *stripe, uint64_t h, const char *key,
                                  size_t key_len, int remove, int *in_main, uint64_t *bytes) {
    uint64_t *slots = stripe_slots(a, stripe), i = stripe_seek(a, stripe, slots, h), slot;
    unsigned entries = 0;
    arena_found found;
    while (stripe_runs(a, slots, i, h, &slot)) {
        if (entry_at(a, slot_offset(slot), &found) && entry_has_key(a, &found, key, key_len)) {
            entries++;
            *in_main |= found.entry.in_main;
            *bytes += entry_bytes(&found) + 8;
            if (remove) {
                stripe_remove(a, stripe, slots, i);
                continue;
            }
        }
        i++;
    }
    if (remove && entries) stripe->keys--;
    return entries;
}

#endif
