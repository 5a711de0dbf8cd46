// Owns the vector arithmetic that every operation shares: words, exponentials, conversions. Knows nothing of models.
//
// A "word" is four bytes of an operand: one float, or two consecutive bfloat16 numbers. `Vec::dot` multiplies sixteen
// words with sixteen words and adds each product (of bfloat16: the two products) to sixteen float sums. Everything that
// is multiplied is stored as words, so that one template serves both types.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace fastserve {

constexpr int kLanes = 16;

// The first `count` lanes, at most all of them.
inline __mmask16 lanes_up_to(int count) { return count >= kLanes ? 0xffff : __mmask16((1u << (count > 0 ? count : 0)) - 1); }

inline float bits_to_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t float_to_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Sixteen times the word at `from`, which may lie anywhere.
inline __m512 broadcast(const void* from) {
    float word;
    std::memcpy(&word, from, sizeof word);
    return _mm512_set1_ps(word);
}

struct Float32 {
    using Element = float;
    static constexpr int kPerWord = 1;

    static Element from_float(float value) { return value; }
    static float to_float(Element value) { return value; }
    static __m512 load(const Element* from) { return _mm512_loadu_ps(from); }
    static void store(Element* to, __m512 value) { _mm512_storeu_ps(to, value); }
    static __m512 dot(__m512 sum, __m512 words, __m512 other) { return _mm512_fmadd_ps(words, other, sum); }
};

#ifdef __AVX512BF16__
struct BFloat16 {
    using Element = uint16_t;
    static constexpr int kPerWord = 2;

    // To the nearest, ties to even, as torch rounds; a NaN stays one.
    static Element from_float(float value) {
        const uint32_t bits = float_to_bits(value);
        if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
        return Element((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
    static float to_float(Element value) { return bits_to_float(uint32_t(value) << 16); }
    static __m512 load(const Element* from) {
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    static void store(Element* to, __m512 value) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(value));
    }
    static __m512 dot(__m512 sum, __m512 words, __m512 other) {
        return _mm512_dpbf16_ps(sum, (__m512bh)words, (__m512bh)other);
    }
};
#endif

// exp(x): 2^n times a polynomial of degree 6 on [-ln 2 / 2, ln 2 / 2]; relative error below 3e-7, 0 far below.
inline __m512 exp_ps(__m512 x) {
    const __m512 log2e = _mm512_set1_ps(1.44269504088896341f);
    const __m512 ln2_high = _mm512_set1_ps(0.693359375f), ln2_low = _mm512_set1_ps(-2.12194440e-4f);
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(_mm512_set1_ps(88.7f), x));  // in this order a NaN stays
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, ln2_high, x);
    r = _mm512_fnmadd_ps(n, ln2_low, r);
    __m512 p = _mm512_set1_ps(1.0f / 720.0f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

// tanh(x) = 1 - 2 / (exp(2x) + 1); exact at both ends.
inline __m512 tanh_ps(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), two = _mm512_set1_ps(2.0f);
    const __m512 small = _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(exp_ps(_mm512_mul_ps(two, x)), one)));
    // Near 0 the difference above cancels: x - x^3/3 + 2x^5/15 is closer there.
    const __m512 square = _mm512_mul_ps(x, x);
    __m512 series = _mm512_fmadd_ps(square, _mm512_set1_ps(2.0f / 15.0f), _mm512_set1_ps(-1.0f / 3.0f));
    series = _mm512_mul_ps(x, _mm512_fmadd_ps(series, square, one));
    const __mmask16 near_zero = _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(0.04f), _CMP_LT_OQ);
    return _mm512_mask_blend_ps(near_zero, small, series);
}

inline __m512 capped(__m512 x, float softcap) {
    const __m512 cap = _mm512_set1_ps(softcap);
    return _mm512_mul_ps(cap, tanh_ps(_mm512_div_ps(x, cap)));
}

inline __m512 sigmoid_times(__m512 x, __m512 slope_x) {  // x / (1 + exp(-slope_x))
    const __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(x, _mm512_add_ps(one, exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), slope_x))));
}

}  // namespace fastserve
