/* The interaction decoder's two cross-attentions on CUDA, behind plain C: no torch, no TensorRT, no C++ across the edge.
 * Meaning: reference.py. Called by cuda_impl.py through ctypes and by the TensorRT plugin.
 */
#ifndef HOICLIP_DUAL_ATTENTION_H
#define HOICLIP_DUAL_ATTENTION_H

#ifdef __cplusplus
extern "C" {
#endif

enum HoiclipType { HOICLIP_FLOAT32 = 0, HOICLIP_FLOAT16 = 1, HOICLIP_BFLOAT16 = 2 };

enum HoiclipStatus {
  HOICLIP_OK = 0,
  HOICLIP_BAD_TYPE = 1,      /* type is none of HoiclipType */
  HOICLIP_BAD_DEPTH = 2,     /* depth is none of 32, 64, 96, 128 */
  HOICLIP_BAD_ALIGNMENT = 3, /* a row does not begin at a multiple of 16 bytes */
  HOICLIP_BAD_SIZE = 4,      /* a size is negative */
  HOICLIP_NOT_LAUNCHED = 5   /* CUDA refused the launch */
};

/* A tensor (batch, heads, rows, depth); depth is contiguous. Steps are counted in elements. */
struct HoiclipTensor {
  const void* data;
  long long batch_step, head_step, row_step;
};

struct HoiclipDualAttention {
  struct HoiclipTensor q, k1, v1, k2, v2, out1, out2; /* the last two are written */
  const unsigned char* padding2; /* (batch, cells2), 1 where a cell is not looked at; or null */
  long long padding_step;        /* from one picture to the next */
  int batch, heads, queries, depth, cells1, cells2, type;
};

/* One launch on `stream` (a cudaStream_t). Allocates nothing and waits for nothing, so a CUDA graph can hold it. */
int hoiclip_dual_attention(const struct HoiclipDualAttention* call, void* stream);

#ifdef __cplusplus
}
#endif
#endif
