/* Verifies every structural invariant of the L1 arena; for tests and debugging. */

#ifndef TERRACE_ARENA_CHECK_H
#define TERRACE_ARENA_CHECK_H

#include "arena.h"

/* Marks the segments of one log, and counts those of its entries that the index knows. */
static const char *check_log(arena_t *a, arena_log log, int is_main, char *seen, uint64_t *live) {
    arena_header *header = a->header;
    uint64_t segments = 0, segment_bytes = arena_segment_bytes(header), left = log.bytes;
    for (uint32_t s = log.head; segments < log.segments; s = a->next[s], segments++) {
        if (s >= header->segments || seen[s]++) return "a segment is chained twice";
        if (segments + 1 == log.segments && s != log.tail) return "a log does not end at its tail";
    }
    if (log.segments
        && (log.segments - 1) * segment_bytes + log.tail_at - log.head_at != log.bytes)
        return "log bytes do not add up";
    if (!log.segments && log.bytes) return "a log without segments has bytes";
    while (left) {
        arena_found found;
        uint64_t at = log.head_at, h, head = arena_head(header, &log);
        if (!arena_lift(a, &log, &found, &h)) return "an entry cannot be read";
        uint64_t size = entry_bytes(&found);
        if (size > left) return "an entry runs over the tail";
        if (found.entry.in_main != is_main) return "an entry is in the wrong log";
        arena_stripe *stripe = a->stripes + stripe_number(a, h);
        if (stripe->generation == header->generation)
            *live += stripe_find_offset(a, stripe, h, head) != UINT64_MAX;
        left -= size;
        for (at += size; at >= segment_bytes; at -= segment_bytes) log.head = a->next[log.head];
        log.head_at = (uint32_t)at;
    }
    return NULL;
}

static const char *check_stripe(arena_t *a, arena_stripe *stripe) {
    uint64_t *slots = stripe_slots(a, stripe), used = 0, last_tag = 0;
    if (stripe->owner || stripe->version & 1) return "a stripe is locked";
    for (uint64_t i = 0; i < a->header->stripe_slots; i++) {
        if (!slots[i]) continue;
        uint64_t tag = slot_tag(slots[i]), home = stripe_home(stripe->size, tag);
        if (home > i) return "a slot is before its home";
        if (tag < last_tag) return "slots are out of order";
        for (uint64_t between = home; between < i; between++)
            if (!slots[between]) return "a slot cannot be reached from its home";
        last_tag = tag;
        used++;
    }
    return used == stripe->used ? NULL : "the slots of a stripe are miscounted";
}

/* Keys, and the variants of each, by looking at all entries with the tag of each entry. */
static const char *check_keys(arena_t *a, arena_stripe *stripe) {
    uint64_t *slots = stripe_slots(a, stripe), slot, keys = 0;
    for (uint64_t i = 0; i < a->header->stripe_slots; i++) {
        arena_found found, other;
        if (!slots[i]) continue;
        if (!entry_at(a, slot_offset(slots[i]), &found)) return "a slot leads nowhere";
        char *key = malloc(found.entry.key_len + 1u);
        if (!key) return "no memory to check with";
        arena_cursor cursor = found.key;
        arena_read(a, &cursor, key, found.entry.key_len);
        uint64_t h = arena_hash(a, key, found.entry.key_len), first = UINT64_MAX;
        unsigned variants = 0;
        if (h >> ARENA_TAG_SHIFT != slot_tag(slots[i])) {
            free(key);
            return "a slot has the tag of another key";
        }
        for (uint64_t j = stripe_seek(a, stripe, slots, h); stripe_runs(a, slots, j, h, &slot); j++)
            if (entry_at(a, slot_offset(slot), &other)
                && entry_has_key(a, &other, key, found.entry.key_len)) {
                if (first == UINT64_MAX) first = j;
                variants += other.variant_len != 0;
            }
        free(key);
        if (variants > a->max_variants) return "too many variants";
        keys += first == i;
    }
    return keys == stripe->keys ? NULL : "the keys of a stripe are miscounted";
}

/* NULL, or the broken invariant. No other worker may be active. */
static const char *arena_check(arena_t *a) {
    arena_header *header = a->header;
    const char *broken;
    uint64_t live = 0, used = 0, index_bytes = 0, seen_segments = 0;
    char *seen = calloc(header->segments, 1);
    if (!seen) return "no memory to check with";
    broken = check_log(a, header->small, 0, seen, &live);
    if (!broken) broken = check_log(a, header->main, 1, seen, &live);
    for (uint32_t s = header->free_segment; !broken && s != UINT32_MAX; s = a->next[s])
        if (s >= header->segments || seen[s]++) broken = "a free segment is in use";
    for (uint32_t s = 0; s < header->segments; s++) seen_segments += seen[s] != 0;
    free(seen);
    if (!broken && seen_segments != header->fresh_segments) broken = "segments were lost";
    for (uint64_t i = 0; !broken && i <= header->stripe_mask; i++) {
        arena_stripe *stripe = a->stripes + i;
        index_bytes += stripe->size * 8ull;
        if (stripe->generation != header->generation) continue;
        used += stripe->used;
        broken = check_stripe(a, stripe);
        if (!broken) broken = check_keys(a, stripe);
    }
    if (broken) return broken;
    if (header->log_owner) return "the logs are locked";
    if (used != live) return "index and logs differ";
    if (index_bytes != header->index_bytes) return "index bytes do not add up";
    if (header->small.segments + header->main.segments
        && !arena_segments_fit(header, 0, 0, 0)) return "over the byte budget";
    for (uint64_t slot = 0; slot <= header->slot_mask; slot++)
        if (!arena_write_flags(a, slot)[a->worker] != !a->in_flight[slot])
            return "a write flag does not match the writes in flight";
    return NULL;
}

#endif
