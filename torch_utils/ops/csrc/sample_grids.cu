// Mean over grids of their multilinear samples at points, and its gradients to the grids and to the points.
#include "packs.cuh"

namespace {

constexpr int MAX_GRIDS = 16;
constexpr int MAX_DIMS = 3;

// The grids lie interleaved in one table of feature vectors, each with a border of one zero around it.
struct Job {
    const void* table;    // [rows, channels]
    const float* points;  // [points, coordinates], each in [-1, 1] across a grid
    void* out;            // [points, channels]; null: the backward pass
    const void* grad;     // gradient of that
    float* grad_table;    // [rows, channels], or null
    float* grad_points;   // [points, coordinates], or null
    unsigned count;       // points
    int channels, coordinates, grids;
    int sizes[MAX_DIMS];    // cells along each axis of a grid, without the border
    int strides[MAX_DIMS];  // rows from one cell to the next
    int grid_stride;        // rows from one grid to the next
    int axes[MAX_GRIDS][MAX_DIMS];  // which coordinate runs along which axis of which grid
};

// The two cells on either side of a point along an axis of a grid with its border, and their shares.
struct Between {
    int cell;  // the lower one: 0 is the border
    float shares[2];
    bool is_inside;  // whether the shares change with the point
};

__device__ inline Between between(float coordinate, int size) {
    const float place = ((coordinate + 1) * size - 1) / 2;
    const bool is_inside = place >= -1 && place <= size;
    // What is no number gets a valid cell, but shares that are none.
    const float moved = (place < -1 ? -1 : place > size ? size : place) + 1;
    const int cell = moved < size ? static_cast<int>(moved) : moved >= size ? size : 0;
    const float upper = moved - cell;
    return {cell, {1 - upper, upper}, is_inside};
}

template <int DIMS> struct Corner {
    unsigned row;
    float weight;
    bool is_border;
};

// Corner `number` of the cell of a point: bit d chooses the side along axis d.
template <int DIMS>
__device__ inline Corner<DIMS> corner(const Job& job, int grid, const Between (&axes)[DIMS], int number) {
    Corner<DIMS> found{static_cast<unsigned>(grid * job.grid_stride), 1.0f / job.grids, false};
#pragma unroll
    for (int d = 0; d < DIMS; d++) {
        const int side = number >> d & 1, cell = axes[d].cell + side;
        found.row += cell * job.strides[d];
        found.weight *= axes[d].shares[side];
        found.is_border |= cell == 0 || cell > job.sizes[d];
    }
    return found;
}

// One thread serves one pack of channels at one point.
template <typename T, int N, int DIMS> __global__ void forward(const __grid_constant__ Job job) {
    const unsigned packs = job.channels / N;
    FOR_ITEMS(i, job.count * packs) {
        const float* point = job.points + i / packs * job.coordinates;
        const T* table = static_cast<const T*>(job.table) + i % packs * N;
        float sums[N] = {};
#pragma unroll 3
        for (int grid = 0; grid < job.grids; grid++) {
            Between axes[DIMS];
#pragma unroll
            for (int d = 0; d < DIMS; d++) axes[d] = between(point[job.axes[grid][d]], job.sizes[d]);
#pragma unroll
            for (int number = 0; number < 1 << DIMS; number++) {
                const auto at = corner<DIMS>(job, grid, axes, number);
                float values[N];
                load<N>(values, table + at.row * job.channels);
#pragma unroll
                for (int k = 0; k < N; k++) sums[k] += at.weight * values[k];
            }
        }
        store<N>(static_cast<T*>(job.out) + i * N, sums);
    }
}

__device__ inline void add_four(float* to, float a, float b, float c, float d) {
#if __CUDA_ARCH__ >= 900
    atomicAdd(reinterpret_cast<float4*>(to), make_float4(a, b, c, d));
#else
    atomicAdd(to, a), atomicAdd(to + 1, b), atomicAdd(to + 2, c), atomicAdd(to + 3, d);
#endif
}

template <int N> __device__ inline void add(float* to, const float (&v)[N], float weight) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int k = 0; k < N; k += 4) {
            add_four(to + k, weight * v[k], weight * v[k + 1], weight * v[k + 2], weight * v[k + 3]);
        }
    } else {
#pragma unroll
        for (int k = 0; k < N; k++) atomicAdd(to + k, weight * v[k]);
    }
}

template <typename T, int N, int DIMS> __global__ void backward(const __grid_constant__ Job job) {
    const unsigned packs = job.channels / N;
    FOR_ITEMS(i, job.count * packs) {
        const unsigned point = i / packs * job.coordinates, channel = i % packs * N;
        float grad[N];
        load<N>(grad, static_cast<const T*>(job.grad) + i * N);
        for (int grid = 0; grid < job.grids; grid++) {
            Between axes[DIMS];
#pragma unroll
            for (int d = 0; d < DIMS; d++) axes[d] = between(job.points[point + job.axes[grid][d]], job.sizes[d]);
            float slopes[DIMS] = {};
#pragma unroll
            for (int number = 0; number < 1 << DIMS; number++) {
                const auto at = corner<DIMS>(job, grid, axes, number);
                // The border is no part of a grid; all points beyond it would meet there and wait for each other.
                if (at.is_border) continue;
                const unsigned place = at.row * job.channels + channel;
                if (job.grad_table && at.weight != 0) add<N>(job.grad_table + place, grad, at.weight);
                if (!job.grad_points) continue;
                float values[N], product = 0;
                load<N>(values, static_cast<const T*>(job.table) + place);
#pragma unroll
                for (int k = 0; k < N; k++) product += grad[k] * values[k];
#pragma unroll
                for (int d = 0; d < DIMS; d++) {
                    float share = number >> d & 1 ? product : -product;
#pragma unroll
                    for (int e = 0; e < DIMS; e++) share *= e == d ? 1 : axes[e].shares[number >> e & 1];
                    slopes[d] += share;
                }
            }
            if (!job.grad_points) continue;
#pragma unroll
            for (int d = 0; d < DIMS; d++) {
                if (!axes[d].is_inside) continue;
                atomicAdd(job.grad_points + point + job.axes[grid][d], slopes[d] * job.sizes[d] / 2 / job.grids);
            }
        }
    }
}

template <typename T, int N> int run(int dims, const Job& job, void* stream) {
    const int64_t items = int64_t(job.count) * (job.channels / N);
    if (dims == 2) return launch(job.out ? forward<T, N, 2> : backward<T, N, 2>, items, job, stream);
    return launch(job.out ? forward<T, N, 3> : backward<T, N, 3>, items, job, stream);
}

template <typename T> int run(int dims, const Job& job, void* stream) {
    constexpr int N = WIDTH<T>;
    const bool in_packs = job.channels % N == 0 && is_aligned(job.table) && is_aligned(job.out) &&
                          is_aligned(job.grad) && is_aligned(job.grad_table);
    return in_packs ? run<T, N>(dims, job, stream) : run<T, 1>(dims, job, stream);
}

}  // namespace

// `layout`: sizes, strides and the stride of grids, then the axes of each grid; 2 or 3 dims, at most MAX_GRIDS grids.
// With `out` the forward pass, else the backward pass, which adds to its results. Fewer than 2^31 numbers in table and
// features. Returns 0 or the number of a CUDA error.
extern "C" int gan3d_sample_grids(
    int format, const void* table, const float* points, void* out, const void* grad, float* grad_table,
    float* grad_points, unsigned count, int channels, int coordinates, int grids, int dims, const int* layout,
    void* stream) {
    Job job{table, points, out, grad, grad_table, grad_points, count, channels, coordinates, grids};
    for (int d = 0; d < dims; d++) {
        job.sizes[d] = layout[d];
        job.strides[d] = layout[dims + d];
        for (int grid = 0; grid < grids; grid++) job.axes[grid][d] = layout[2 * dims + 1 + grid * dims + d];
    }
    job.grid_stride = layout[2 * dims];
    if (format == FLOAT32) return run<float>(dims, job, stream);
    if (format == FLOAT16) return run<__half>(dims, job, stream);
    return run<__nv_bfloat16>(dims, job, stream);
}
