// Runs the TensorRT plugin as TensorRT would, on numbers of the caller: for tests on the CPU.
#include <NvInfer.h>

#include <memory>

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);

// Tensors are contiguous (batch, rows, heads × depth) of float; padding (batch, cells2) may be null. 0 where all is well.
extern "C" int plugin_run(void const* const* inputs, void* const* outputs, int batch, int heads, int queries, int depth,
                          int cells1, int cells2) {
  using namespace nvinfer1;
  int32_t count = 0;
  auto* creator = static_cast<IPluginCreatorV3One*>(getCreators(count)[0]);
  PluginField const field("heads", &heads, PluginFieldType::kINT32, 1);
  PluginFieldCollection const fields{1, &field};
  std::unique_ptr<IPluginV3> built(creator->createPlugin("", &fields, TensorRTPhase::kRUNTIME));
  if (!built) return 1;
  auto* before = static_cast<IPluginV3OneRuntime*>(built->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  std::unique_ptr<IPluginV3> plugin(before->attachToContext(nullptr));
  auto* runtime = static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  int const rows[] = {queries, cells1, cells1, cells2, cells2, cells2};
  PluginTensorDesc tensors[8] = {};
  for (int i = 0; i < 8; ++i) {
    tensors[i].dims.nbDims = i == 5 ? 2 : 3;
    tensors[i].dims.d[0] = batch;
    tensors[i].dims.d[1] = i < 6 ? rows[i] : queries;
    tensors[i].dims.d[2] = heads * depth;
    tensors[i].type = i == 5 ? DataType::kBOOL : DataType::kFLOAT;
  }
  int32_t const used = inputs[5] == nullptr ? 5 : 6;
  if (runtime->onShapeChange(tensors, used, tensors + 6, 2) != 0) return 2;
  return runtime->enqueue(tensors, tensors + 6, inputs, outputs, nullptr, nullptr);
}
