// Runs CUDA kernels on the CPU, thread by thread, to check their logic where there is no GPU.
//
// Every thread of a block is a fibre; at a barrier or a warp exchange it waits until the others have come. Numbers are
// rounded as on the device: products in float, halves to nearest even. Speed and memory order are not what this shows.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define __shared__ static  // blocks run one after the other
#define __launch_bounds__(threads)
#define HOICLIP_LAUNCH(kernel, grid, block, stream, ...) \
  (static_cast<void>(stream), hoiclip::host::run(grid, block, [&] { kernel(__VA_ARGS__); }))
#define HOICLIP_LAUNCHED() true

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline dim3 threadIdx, blockIdx;

namespace hoiclip {

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};
inline float to_float(Half x) {
  _Float16 value;
  memcpy(&value, &x, 2);
  return static_cast<float>(value);
}
inline float to_float(Bfloat x) {
  const uint32_t wide = static_cast<uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}
inline Half from_float(float x, Half) {
  const _Float16 value = static_cast<_Float16>(x);
  Half half;
  memcpy(&half, &value, 2);
  return half;
}
inline Bfloat from_float(float x, Bfloat) {
  uint32_t wide;
  memcpy(&wide, &x, 4);
  return {static_cast<uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16)};
}

namespace host {

constexpr int kStack = 1 << 17;

struct Fibre {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done = false;
};

struct Meeting {  // of a warp or a block
  int members = 0, come = 0;
  long long round = 0;
};

struct Words {
  uint32_t word[10];
};

inline std::vector<Fibre> fibres;
inline std::vector<Meeting> warps;
inline std::vector<Words> places[2];  // what a warp exchanges, by round
inline Meeting block;
inline ucontext_t scheduler;
inline unsigned current;
inline std::function<void()> body;

inline void wait(Meeting& meeting) {
  const long long round = meeting.round;
  if (++meeting.come == meeting.members) {
    meeting.come = 0;
    ++meeting.round;
    return;
  }
  while (meeting.round == round) swapcontext(&fibres[current].context, &scheduler);
}

inline void enter() {
  body();
  fibres[current].done = true;
  for (Meeting* meeting : {&warps[current / 32], &block}) {
    --meeting->members;  // who has left is not waited for
    if (meeting->members > 0 && meeting->come == meeting->members) meeting->come = 0, ++meeting->round;
  }
}

inline void run(dim3 grid, dim3 size, std::function<void()> kernel) {
  body = std::move(kernel);
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        fibres = std::vector<Fibre>(size.x);
        warps.assign((size.x + 31) / 32, Meeting{32});
        block = Meeting{static_cast<int>(size.x)};
        places[0].assign(size.x, {}), places[1].assign(size.x, {});
        for (Fibre& fibre : fibres) {
          fibre.stack.reset(new char[kStack]);
          getcontext(&fibre.context);
          fibre.context.uc_stack.ss_sp = fibre.stack.get();
          fibre.context.uc_stack.ss_size = kStack;
          fibre.context.uc_link = &scheduler;
          makecontext(&fibre.context, enter, 0);
        }
        for (bool left = true; left;) {
          left = false;
          for (current = 0; current < size.x; ++current) {
            if (fibres[current].done) continue;
            left = true;
            threadIdx = dim3(current);
            swapcontext(&scheduler, &fibres[current].context);
          }
        }
      }
}

// Everybody's words; the place of lane i is at [i].
inline const Words* exchange(const Words& mine) {
  Meeting& warp = warps[current / 32];
  std::vector<Words>& place = places[warp.round % 2];
  place[current] = mine;
  wait(warp);
  return place.data() + current / 32 * 32;
}

}  // namespace host
}  // namespace hoiclip

inline float hoiclip_shuffled(float value, int lane) {
  hoiclip::host::Words words{};
  memcpy(&words, &value, 4);
  const auto* all = hoiclip::host::exchange(words);
  float other;
  memcpy(&other, &all[lane], 4);
  return other;
}
inline float __shfl_xor_sync(unsigned, float value, int step) {
  return hoiclip_shuffled(value, static_cast<int>(threadIdx.x % 32) ^ step);
}
inline float __shfl_sync(unsigned, float value, int lane) { return hoiclip_shuffled(value, lane); }
inline void __syncthreads() { hoiclip::host::wait(hoiclip::host::block); }

namespace hoiclip {

// mma.m16n8k16 as the PTX manual lays it out over the lanes of a warp.
template <typename T>
void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], T) {
  host::Words words{};
  memcpy(words.word, a, 16);
  memcpy(words.word + 4, b, 8);
  const host::Words* all = host::exchange(words);
  const auto number = [](uint32_t word, int upper) {
    const T half{static_cast<uint16_t>(upper ? word >> 16 : word & 0xffff)};
    return to_float(half);
  };
  const auto a_at = [&](int row, int k) {
    return number(all[row % 8 * 4 + k % 8 / 2].word[row / 8 + 2 * (k / 8)], k % 2);
  };
  const auto b_at = [&](int k, int column) { return number(all[column * 4 + k % 8 / 2].word[4 + k / 8], k % 2); };
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
    float sum = 0.0f;
    for (int k = 0; k < 16; ++k) sum += a_at(row, k) * b_at(k, column);
    c[i] += sum;
  }
}

}  // namespace hoiclip
