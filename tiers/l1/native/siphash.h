/* SipHash-1-3, keyed: a client that does not know the seed cannot choose keys that collide. */

#ifndef TERRACE_SIPHASH_H
#define TERRACE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SIP_ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

#define SIP_ROUND(v0, v1, v2, v3)                                                              \
    do {                                                                                       \
        v0 += v1, v1 = SIP_ROTATE(v1, 13), v1 ^= v0, v0 = SIP_ROTATE(v0, 32);                  \
        v2 += v3, v3 = SIP_ROTATE(v3, 16), v3 ^= v2;                                           \
        v0 += v3, v3 = SIP_ROTATE(v3, 21), v3 ^= v0;                                           \
        v2 += v1, v1 = SIP_ROTATE(v1, 17), v1 ^= v2, v2 = SIP_ROTATE(v2, 32);                  \
    } while (0)

static inline uint64_t siphash13(const uint64_t seed[2], const char *bytes, size_t length) {
    uint64_t v0 = seed[0] ^ 0x736f6d6570736575u, v1 = seed[1] ^ 0x646f72616e646f6du;
    uint64_t v2 = seed[0] ^ 0x6c7967656e657261u, v3 = seed[1] ^ 0x7465646279746573u;
    uint64_t last = (uint64_t)length << 56, word;
    const char *end = bytes + (length & ~(size_t)7);
    for (; bytes != end; bytes += 8) {
        memcpy(&word, bytes, 8);
        v3 ^= word;
        SIP_ROUND(v0, v1, v2, v3);
        v0 ^= word;
    }
    for (size_t i = 0; i < (length & 7); i++) last |= (uint64_t)(unsigned char)bytes[i] << (8 * i);
    v3 ^= last;
    SIP_ROUND(v0, v1, v2, v3);
    v0 ^= last;
    v2 ^= 0xff;
    SIP_ROUND(v0, v1, v2, v3);
    SIP_ROUND(v0, v1, v2, v3);
    SIP_ROUND(v0, v1, v2, v3);
    return v0 ^ v1 ^ v2 ^ v3;
}

#endif
