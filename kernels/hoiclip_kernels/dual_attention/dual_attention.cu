// Both cross-attentions in one launch. A block does 16 queries of one head against one of the memories; its warps share
// out the cells, keep a softmax each, and put them together at the end.
//
// Nothing is staged in shared memory on the way. A sum does not care about the order of its terms, so each thread takes
// the columns of the head that lie together in memory, eight numbers in one load, and calls them whatever the tensor
// core's layout wants; queries and keys are renamed alike. The columns of the values are renamed in the same way, and
// named back when the result is written.
#include "dual_attention.h"

#include "../device.cuh"

namespace hoiclip {
namespace {

constexpr int kRows = 16;   // queries of a block
constexpr int kWarps = 4;
constexpr int kCells = 16;  // cells a warp takes at a time
constexpr float kLog2E = 1.4426950408889634f;

struct Memory {
  HoiclipTensor k, v, out;
  const unsigned char* padding;
  int cells;
};

struct Call {
  HoiclipTensor q;
  Memory memory[2];
  long long padding_step;
  int heads, queries;
  float scale;  // of scores, for powers of two
};

template <typename T>
__device__ inline const T* row_of(const HoiclipTensor& tensor, int batch, int head, int row) {
  return static_cast<const T*>(tensor.data) + batch * tensor.batch_step + head * tensor.head_step +
         row * tensor.row_step;
}

__device__ inline bool seen(const Memory& memory, const unsigned char* padding, int cell) {
  return cell < memory.cells && (padding == nullptr || padding[cell] == 0);
}

__device__ inline int least(int a, int b) { return a < b ? a : b; }

// exp2(x - level), where a level of minus infinity means that nothing has been seen yet.
__device__ inline float faded(float x, float level) { return level == -INFINITY ? 0.0f : exp2f(x - level); }

// Puts the warps' softmaxes together and writes up to 16 rows of `out`.
template <typename T, int kDepth>
__device__ inline void write_rows(const Memory& memory, const Call& call, int batch, int head, int first_query,
                                  const float (&peak)[kWarps][kRows], const float (&total)[kWarps][kRows],
                                  const float (&mixed)[kWarps][kRows][kDepth]) {
  for (int i = threadIdx.x; i < kRows * kDepth; i += kWarps * 32) {
    const int row = i / kDepth, column = i % kDepth;
    if (first_query + row >= call.queries) continue;
    float level = -INFINITY;
    for (int w = 0; w < kWarps; ++w) level = fmaxf(level, peak[w][row]);
    float sum = 0.0f, value = 0.0f;
    for (int w = 0; w < kWarps; ++w) {
      const float share = faded(peak[w][row], level);
      sum += total[w][row] * share;
      value += mixed[w][row][column] * share;
    }
    T* out = const_cast<T*>(row_of<T>(memory.out, batch, head, first_query + row));
    out[column] = from_float(sum == 0.0f ? 0.0f : value / sum, T{});
  }
}

template <typename T, int kDepth>
__global__ void __launch_bounds__(kWarps * 32) half_kernel(Call call) {
  constexpr int kLoads = kDepth / 32;  // of eight numbers, per row of queries or keys and thread
  constexpr int kTiles = kDepth / 8;   // columns of values a thread takes of every cell
  __shared__ float peak_s[kWarps][kRows], total_s[kWarps][kRows], mixed_s[kWarps][kRows][kDepth];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, quarter = lane % 4;
  const int first_query = blockIdx.x * kRows, batch = blockIdx.y / call.heads, head = blockIdx.y % call.heads;
  const Memory& memory = call.memory[blockIdx.z];
  const unsigned char* padding =
      memory.padding == nullptr ? nullptr : memory.padding + batch * call.padding_step;

  uint32_t q[2 * kLoads][4];  // queries `group` and `group` + 8
  for (int half = 0; half < 2; ++half) {
    const T* row = row_of<T>(call.q, batch, head, least(first_query + group + 8 * half, call.queries - 1));
    for (int j = 0; j < kLoads; ++j) {
      uint32_t words[4];
      memcpy(words, __builtin_assume_aligned(row + 32 * j + 8 * quarter, 16), 16);
      for (int i = 0; i < 4; ++i) q[2 * j + i / 2][half + 2 * (i % 2)] = words[i];
    }
  }

  float peak[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
  float mixed[kTiles][4] = {};
  for (int start = warp * kCells; start < memory.cells; start += kWarps * kCells) {
    float score[2][4] = {};
    for (int half = 0; half < 2; ++half) {
      const T* row = row_of<T>(memory.k, batch, head, least(start + 8 * half + group, memory.cells - 1));
      for (int j = 0; j < kLoads; ++j) {
        uint32_t words[4];
        memcpy(words, __builtin_assume_aligned(row + 32 * j + 8 * quarter, 16), 16);
        const uint32_t first[2] = {words[0], words[1]}, second[2] = {words[2], words[3]};
        multiply_add(score[half], q[2 * j], first, T{});
        multiply_add(score[half], q[2 * j + 1], second, T{});
      }
    }
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 4; ++i) {
        const int cell = start + 8 * half + 2 * quarter + i % 2;
        score[half][i] = seen(memory, padding, cell) ? score[half][i] * call.scale : -INFINITY;
      }
    for (int r = 0; r < 2; ++r) {  // row `group`, then `group` + 8
      float highest = fmaxf(fmaxf(score[0][2 * r], score[0][2 * r + 1]), fmaxf(score[1][2 * r], score[1][2 * r + 1]));
      highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, 2));
      const float level = fmaxf(peak[r], highest), share = faded(peak[r], level);
      peak[r] = level;
      total[r] *= share;
      for (int t = 0; t < kTiles; ++t) mixed[t][2 * r] *= share, mixed[t][2 * r + 1] *= share;
      for (int half = 0; half < 2; ++half)
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          score[half][i] = faded(score[half][i], level);
          total[r] += score[half][i];
        }
    }
    const uint32_t weights[4] = {
        pair_of_floats<T>(score[0][0], score[0][1]), pair_of_floats<T>(score[0][2], score[0][3]),
        pair_of_floats<T>(score[1][0], score[1][1]), pair_of_floats<T>(score[1][2], score[1][3])};
    T values[4][kTiles];  // of the four cells whose weights this thread's place in the product names
    for (int i = 0; i < 4; ++i) {
      const int cell = start + 2 * quarter + i % 2 + 8 * (i / 2);
      const T* row = row_of<T>(memory.v, batch, head, least(cell, memory.cells - 1));
      memcpy(values[i], __builtin_assume_aligned(row + kTiles * group, 8), sizeof(values[i]));
    }
    for (int t = 0; t < kTiles; ++t) {
      const uint32_t b[2] = {pair(values[0][t], values[1][t]), pair(values[2][t], values[3][t])};
      multiply_add(mixed[t], weights, b, T{});
    }
  }

  for (int r = 0; r < 2; ++r) {
    total[r] += __shfl_xor_sync(kAllLanes, total[r], 1);
    total[r] += __shfl_xor_sync(kAllLanes, total[r], 2);
    const int row = group + 8 * r;
    if (quarter == 0) peak_s[warp][row] = peak[r], total_s[warp][row] = total[r];
    for (int t = 0; t < kTiles; ++t)
      for (int i = 0; i < 2; ++i) mixed_s[warp][row][(2 * quarter + i) * kTiles + t] = mixed[t][2 * r + i];
  }
  __syncthreads();
  write_rows<T, kDepth>(memory, call, batch, head, first_query, peak_s, total_s, mixed_s);
}

// In full precision there is no tensor core to feed: a lane scores a cell, then a column of the values.
template <int kDepth>
__global__ void __launch_bounds__(kWarps * 32) float_kernel(Call call) {
  constexpr int kColumns = kDepth / 32;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int query = blockIdx.x * kWarps + warp, batch = blockIdx.y / call.heads, head = blockIdx.y % call.heads;
  const Memory& memory = call.memory[blockIdx.z];
  const unsigned char* padding =
      memory.padding == nullptr ? nullptr : memory.padding + batch * call.padding_step;
  if (query >= call.queries) return;  // a whole warp
  const float* q = row_of<float>(call.q, batch, head, query);
  float peak = -INFINITY, total = 0.0f, mixed[kColumns] = {};
  for (int start = 0; start < memory.cells; start += 32) {
    const int cell = start + lane;
    const float* k = row_of<float>(memory.k, batch, head, least(cell, memory.cells - 1));
    float score = 0.0f;
    for (int d = 0; d < kDepth; ++d) score += q[d] * k[d];
    score = seen(memory, padding, cell) ? score * call.scale : -INFINITY;
    float level = score;
    for (int step = 16; step > 0; step /= 2) level = fmaxf(level, __shfl_xor_sync(kAllLanes, level, step));
    level = fmaxf(level, peak);
    const float share = faded(peak, level), weight = faded(score, level);
    peak = level;
    total = total * share + weight;
    for (int c = 0; c < kColumns; ++c) mixed[c] *= share;
    for (int i = 0; i < least(32, memory.cells - start); ++i) {
      const float one = __shfl_sync(kAllLanes, weight, i);
      const float* v = row_of<float>(memory.v, batch, head, start + i);
      for (int c = 0; c < kColumns; ++c) mixed[c] += one * v[32 * c + lane];
    }
  }
  for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(kAllLanes, total, step);
  float* out = const_cast<float*>(row_of<float>(memory.out, batch, head, query));
  for (int c = 0; c < kColumns; ++c) out[32 * c + lane] = total == 0.0f ? 0.0f : mixed[c] / total;
}

template <int kDepth>
void launch(const Call& call, int batch, int type, void* stream) {
  const bool full = type == HOICLIP_FLOAT32;
  const unsigned rows = full ? kWarps : kRows;
  const dim3 grid((call.queries + rows - 1) / rows, static_cast<unsigned>(batch * call.heads), 2);
  const dim3 block(kWarps * 32);
  if (full) {
    HOICLIP_LAUNCH((float_kernel<kDepth>), grid, block, stream, call);
  } else if (type == HOICLIP_FLOAT16) {
    HOICLIP_LAUNCH((half_kernel<Half, kDepth>), grid, block, stream, call);
  } else {
    HOICLIP_LAUNCH((half_kernel<Bfloat, kDepth>), grid, block, stream, call);
  }
}

bool aligned(const HoiclipTensor& tensor, int bytes) {
  const auto off = [bytes](long long step) { return step * bytes % 16 != 0; };
  return reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0 && !off(tensor.batch_step) && !off(tensor.head_step) &&
         !off(tensor.row_step);
}

}  // namespace
}  // namespace hoiclip

extern "C" int hoiclip_dual_attention(const HoiclipDualAttention* c, void* stream) {
  using namespace hoiclip;
  if (c->type < HOICLIP_FLOAT32 || c->type > HOICLIP_BFLOAT16) return HOICLIP_BAD_TYPE;
  for (const int size : {c->batch, c->heads, c->queries, c->cells1, c->cells2})
    if (size < 0) return HOICLIP_BAD_SIZE;
  const int bytes = c->type == HOICLIP_FLOAT32 ? 4 : 2;
  for (const HoiclipTensor* tensor : {&c->q, &c->k1, &c->v1, &c->k2, &c->v2, &c->out1, &c->out2})
    if (!aligned(*tensor, bytes)) return HOICLIP_BAD_ALIGNMENT;
  if (c->depth != 32 && c->depth != 64 && c->depth != 96 && c->depth != 128) return HOICLIP_BAD_DEPTH;
  if (c->batch == 0 || c->heads == 0 || c->queries == 0) return HOICLIP_OK;
  Call call{};
  call.q = c->q;
  call.memory[0] = {c->k1, c->v1, c->out1, nullptr, c->cells1};
  call.memory[1] = {c->k2, c->v2, c->out2, c->padding2, c->cells2};
  call.padding_step = c->padding_step;
  call.heads = c->heads;
  call.queries = c->queries;
  call.scale = kLog2E / sqrtf(static_cast<float>(c->depth));
  switch (c->depth) {
    case 32: launch<32>(call, c->batch, c->type, stream); break;
    case 64: launch<64>(call, c->batch, c->type, stream); break;
    case 96: launch<96>(call, c->batch, c->type, stream); break;
    default: launch<128>(call, c->batch, c->type, stream); break;
  }
  return HOICLIP_LAUNCHED() ? HOICLIP_OK : HOICLIP_NOT_LAUNCHED;
}
