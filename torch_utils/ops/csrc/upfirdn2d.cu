// Up-sampling by zeros, padding, FIR filter and decimation in one pass that never sees the zeros.
#include "packs.cuh"

namespace {

// An image is [outer, height, width, inner]: with channels first all of them are outer, with channels last inner.
struct Job {
    const void* x;
    const float* filter;  // [taps_y, taps_x]
    void* out;
    int outer, inner;
    int in_height, in_width, out_height, out_width;
    int up_x, up_y, down_x, down_y;
    int left, top;  // padding before the first column and row; negative: crop
    int taps_x, taps_y;
    bool correlate;  // whether the filter is used as it lies, not turned by 180 degrees
    float gain;
};

// The first tap that meets a pixel and not an inserted zero, for an output that begins at `start` of the enlarged
// image, and the pixel that it meets.
__device__ inline void first_tap(int start, int up, int& tap, int& pixel) {
    pixel = start > 0 ? (start + up - 1) / up : -(-start / up);  // rounded up
    tap = pixel * up - start;
}

// UP, DOWN and TAPS are known when compiled for the sizes that networks use, and 0 otherwise.
template <typename T, int N, int UP, int DOWN, int TAPS>
__global__ void upfirdn2d(const __grid_constant__ Job job) {
    static_assert(TAPS % (UP ? UP : 1) == 0, "as many taps meet a pixel wherever an output begins");
    const int taps_x = TAPS ? TAPS : job.taps_x, taps_y = TAPS ? TAPS : job.taps_y;
    const int up_x = UP ? UP : job.up_x, up_y = UP ? UP : job.up_y;
    const int down_x = DOWN ? DOWN : job.down_x, down_y = DOWN ? DOWN : job.down_y;
    const unsigned packs = job.inner / N;
    FOR_ITEMS(i, packs * job.outer * job.out_height * job.out_width) {
        const unsigned pack = i % packs, place = i / packs;
        const int column = place % job.out_width, line = place / job.out_width;
        const int row = line % job.out_height, image = line / job.out_height;
        int tap_x, tap_y, x0, y0;
        first_tap(column * down_x - job.left, up_x, tap_x, x0);
        first_tap(row * down_y - job.top, up_y, tap_y, y0);

        // How many taps along each axis meet a pixel.
        const int rows = TAPS ? TAPS / (UP ? UP : 1) : (taps_y - tap_y + up_y - 1) / up_y;
        const int columns = TAPS ? TAPS / (UP ? UP : 1) : (taps_x - tap_x + up_x - 1) / up_x;
        const T* source = static_cast<const T*>(job.x) + pack * N;
        float sums[N] = {};
#pragma unroll
        for (int j = 0; j < rows; j++) {
#pragma unroll
            for (int k = 0; k < columns; k++) {
                const int y = y0 + j, x = x0 + k;
                if (y < 0 || y >= job.in_height || x < 0 || x >= job.in_width) continue;
                const int tap = (tap_y + j * up_y) * taps_x + tap_x + k * up_x;
                const float weight = job.filter[job.correlate ? tap : taps_x * taps_y - 1 - tap];
                float values[N];
                load<N>(values, source + ((image * job.in_height + y) * job.in_width + x) * job.inner);
#pragma unroll
                for (int c = 0; c < N; c++) sums[c] += weight * values[c];
            }
        }
#pragma unroll
        for (int c = 0; c < N; c++) sums[c] *= job.gain;
        store<N>(static_cast<T*>(job.out) + i * N, sums);
    }
}

template <typename T, int N> int run(const Job& job, void* stream) {
    const int64_t items = int64_t(job.inner / N) * job.outer * job.out_height * job.out_width;
    const bool square = job.taps_x == 4 && job.taps_y == 4 && job.up_x == job.up_y && job.down_x == job.down_y;
    const int up = square ? job.up_x : 0, down = square ? job.down_x : 0;
    if (up == 1 && down == 1) return launch(upfirdn2d<T, N, 1, 1, 4>, items, job, stream);
    if (up == 2 && down == 1) return launch(upfirdn2d<T, N, 2, 1, 4>, items, job, stream);
    if (up == 1 && down == 2) return launch(upfirdn2d<T, N, 1, 2, 4>, items, job, stream);
    return launch(upfirdn2d<T, N, 0, 0, 0>, items, job, stream);
}

template <typename T> int run(const Job& job, void* stream) {
    constexpr int N = WIDTH<T>;
    const bool in_packs = job.inner % N == 0 && is_aligned(job.x) && is_aligned(job.out);
    return in_packs ? run<T, N>(job, stream) : run<T, 1>(job, stream);
}

}  // namespace

// Fewer than 2^31 numbers in either image. Returns 0 or the number of a CUDA error.
extern "C" int gan3d_upfirdn2d(
    int format, const void* x, const float* filter, void* out, int outer, int inner, int in_height, int in_width,
    int out_height, int out_width, int up_x, int up_y, int down_x, int down_y, int left, int top, int taps_x,
    int taps_y, int correlate, float gain, void* stream) {
    const Job job{x, filter, out, outer, inner, in_height, in_width, out_height, out_width, up_x, up_y,
                  down_x, down_y, left, top, taps_x, taps_y, correlate != 0, gain};
    if (format == FLOAT32) return run<float>(job, stream);
    if (format == FLOAT16) return run<__half>(job, stream);
    return run<__nv_bfloat16>(job, stream);
}
