// What the number of a CUDA error means.
#include "packs.cuh"

extern "C" const char* gan3d_error(int number) { return cudaGetErrorString(static_cast<cudaError_t>(number)); }
