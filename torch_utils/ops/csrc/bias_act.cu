// y = clamp(gain * act(x + b)) and its derivatives of first and second order, element by element.
#include "packs.cuh"

namespace {

enum Activation { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH };

constexpr float SELU_SCALE = 1.0507009873554805f;
constexpr float SELU_ALPHA = 1.6732632423543772f;
constexpr float SOFTPLUS_LINEAR_FROM = 20.0f;  // as in torch: above, softplus(u) is u

struct Job {
    const void* at;      // x; for the slope of a rectifier y, whose sign is that of x + b
    const void* bias;    // or null
    const void* first;   // gradient of y; orders 1 and 2
    const void* second;  // gradient of the gradient of x; order 2
    void* out;
    unsigned count;
    unsigned step;      // elements from one entry of the bias to the next
    unsigned channels;  // entries of the bias
    int activation;
    float alpha, gain, clamp;  // clamp < 0: none
};

__device__ inline bool is_rectifier(int activation) { return activation <= LRELU; }

// A function's value, slope or curvature at one place: what ORDER asks for.
template <int ORDER> __device__ inline float pick(float value, float slope, float curvature) {
    return ORDER == 0 ? value : ORDER == 1 ? slope : curvature;
}

// Comparisons are such that no number stays no number.
template <int ORDER> __device__ inline float activation(int which, float u, float alpha) {
    switch (which) {
        case RELU: return pick<ORDER>(u < 0 ? 0 : u, u > 0, 0);
        case LRELU: return pick<ORDER>(u > 0 ? u : u * alpha, u > 0 ? 1 : alpha, 0);
        case TANH: {
            const float t = tanhf(u);
            return pick<ORDER>(t, 1 - t * t, -2 * t * (1 - t * t));
        }
        case ELU: return u > 0 ? pick<ORDER>(u, 1, 0) : pick<ORDER>(expm1f(u), expf(u), expf(u));
        case SELU: {
            const float depth = SELU_SCALE * SELU_ALPHA;
            if (u > 0) return pick<ORDER>(SELU_SCALE * u, SELU_SCALE, 0);
            return pick<ORDER>(depth * expm1f(u), depth * expf(u), depth * expf(u));
        }
        case SIGMOID:
        case SOFTPLUS:
        case SWISH: {
            const float s = 1 / (1 + expf(-u));
            if (which == SIGMOID) return pick<ORDER>(s, s * (1 - s), s * (1 - s) * (1 - 2 * s));
            if (which == SWISH) return pick<ORDER>(u * s, s * (1 + u * (1 - s)), s * (1 - s) * (2 + u * (1 - 2 * s)));
            return u > SOFTPLUS_LINEAR_FROM ? pick<ORDER>(u, 1, 0) : pick<ORDER>(log1pf(expf(u)), s, s * (1 - s));
        }
        default: return pick<ORDER>(u, 1, 0);
    }
}

template <int ORDER> __device__ inline float result(const Job& job, float at, float b, float first, float second) {
    const float u = at + b;
    float y = u;
    if (ORDER == 0 || !is_rectifier(job.activation)) y = job.gain * activation<0>(job.activation, u, job.alpha);
    if (ORDER == 0) return job.clamp >= 0 && fabsf(y) > job.clamp ? copysignf(job.clamp, y) : y;
    if (job.clamp >= 0 && fabsf(y) >= job.clamp) return 0;
    const float derivative = job.gain * activation<ORDER>(job.activation, u, job.alpha);
    return ORDER == 1 ? first * derivative : first * second * derivative;
}

template <typename T, int ORDER, int N> __global__ void bias_act(const __grid_constant__ Job job) {
    const T* bias = static_cast<const T*>(job.bias);
    FOR_ITEMS(pack, job.count / N) {
        const unsigned i = pack * N;
        float at[N], b[N] = {}, first[N] = {}, second[N] = {}, out[N];
        load<N>(at, static_cast<const T*>(job.at) + i);
        if (ORDER > 0) load<N>(first, static_cast<const T*>(job.first) + i);
        if (ORDER > 1) load<N>(second, static_cast<const T*>(job.second) + i);
        if (bias) {
            const unsigned channel = i / job.step % job.channels;
            // A pack lies within one channel or, where channels are last, in neighbouring ones.
#pragma unroll
            for (int k = 0; k < N; k++) b[k] = to_float(bias[job.step == 1 ? channel + k : channel]);
        }
#pragma unroll
        for (int k = 0; k < N; k++) out[k] = result<ORDER>(job, at[k], b[k], first[k], second[k]);
        store<N>(static_cast<T*>(job.out) + i, out);
    }
}

template <typename T, int ORDER> int run(const Job& job, void* stream) {
    constexpr int N = WIDTH<T>;
    const bool aligned = is_aligned(job.at) && is_aligned(job.first) && is_aligned(job.second) && is_aligned(job.out);
    const bool even = !job.bias || job.step % N == 0 || (job.step == 1 && job.channels % N == 0);
    if (aligned && even && job.count % N == 0) return launch(bias_act<T, ORDER, N>, job.count / N, job, stream);
    return launch(bias_act<T, ORDER, 1>, job.count, job, stream);
}

template <typename T> int run(int order, const Job& job, void* stream) {
    return order == 0 ? run<T, 0>(job, stream) : order == 1 ? run<T, 1>(job, stream) : run<T, 2>(job, stream);
}

}  // namespace

// All tensors but the bias share one dense layout, and all share one format. Returns 0 or the number of a CUDA error.
extern "C" int gan3d_bias_act(
    int format, int activation, int order, const void* at, const void* bias, const void* first, const void* second,
    void* out, unsigned count, unsigned step, unsigned channels, float alpha, float gain, float clamp, void* stream) {
    const Job job{at, bias, first, second, out, count, step, channels, activation, alpha, gain, clamp};
    if (format == FLOAT32) return run<float>(order, job, stream);
    if (format == FLOAT16) return run<__half>(order, job, stream);
    return run<__nv_bfloat16>(order, job, stream);
}
