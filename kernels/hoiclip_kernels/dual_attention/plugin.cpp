// dual_attention as a TensorRT plugin (IPluginV3), around the same launcher as everything else. Needs TensorRT's headers
// (10.3 or newer), but nothing of its library when linked: load it with IPluginRegistry::loadLibrary or setPluginsToSerialize.
//
// Node HoiclipDualAttention, version 1, namespace hoiclip, attribute heads. Tensors are (batch, rows, heads × depth), as
// linear layers leave them, so that no transpose surrounds it: q, k1, v1, k2, v2 and, perhaps, padding2 (batch, cells)
// of bool; out come two like q. Meaning: reference.py.
#include <NvInfer.h>

#include <cstring>
#include <memory>
#include <new>

#include "dual_attention.h"

namespace hoiclip {
namespace {

using namespace nvinfer1;

constexpr char kName[] = "HoiclipDualAttention";
constexpr char kVersion[] = "1";
constexpr char kNamespace[] = "hoiclip";
constexpr char kHeads[] = "heads";
constexpr int32_t kTensors = 5, kOutputs = 2;  // inputs before the padding

int type_of(DataType type) {
  switch (type) {
    case DataType::kFLOAT: return HOICLIP_FLOAT32;
    case DataType::kHALF: return HOICLIP_FLOAT16;
    case DataType::kBF16: return HOICLIP_BFLOAT16;
    default: return -1;
  }
}

class Plugin final : public IPluginV3, public IPluginV3OneCore, public IPluginV3OneBuild, public IPluginV3OneRuntime {
 public:
  explicit Plugin(int32_t heads) : heads_(heads), field_(kHeads, &heads_, PluginFieldType::kINT32, 1), fields_{1, &field_} {}

  IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
    switch (type) {
      case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
      case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
      case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }
  IPluginV3* clone() noexcept override { return new (std::nothrow) Plugin(heads_); }

  AsciiChar const* getPluginName() const noexcept override { return kName; }
  AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
  AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }

  int32_t getNbOutputs() const noexcept override { return kOutputs; }

  int32_t getOutputDataTypes(DataType* outputs, int32_t output_count, DataType const* inputs,
                             int32_t input_count) const noexcept override {
    if (output_count != kOutputs || input_count < kTensors) return 1;
    for (int32_t i = 0; i < kOutputs; ++i) outputs[i] = inputs[0];
    return 0;
  }

  int32_t getOutputShapes(DimsExprs const* inputs, int32_t input_count, DimsExprs const*, int32_t, DimsExprs* outputs,
                          int32_t output_count, IExprBuilder&) noexcept override {
    if (output_count != kOutputs || input_count < kTensors || inputs[0].nbDims != 3) return 1;
    for (int32_t i = 0; i < kOutputs; ++i) outputs[i] = inputs[0];
    return 0;
  }

  bool supportsFormatCombination(int32_t at, DynamicPluginTensorDesc const* tensors, int32_t input_count,
                                 int32_t output_count) noexcept override {
    if (output_count != kOutputs || (input_count != kTensors && input_count != kTensors + 1)) return false;
    PluginTensorDesc const& one = tensors[at].desc;
    if (one.format != TensorFormat::kLINEAR) return false;
    if (at == kTensors && input_count > kTensors) return one.type == DataType::kBOOL;
    return at == 0 ? type_of(one.type) >= 0 : one.type == tensors[0].desc.type;
  }

  int32_t configurePlugin(DynamicPluginTensorDesc const* inputs, int32_t input_count, DynamicPluginTensorDesc const*,
                          int32_t) noexcept override {
    if (input_count < kTensors || inputs[0].desc.dims.nbDims != 3) return 1;
    int64_t const width = inputs[0].desc.dims.d[2];
    return width < 0 || fits(width) ? 0 : 1;
  }

  int32_t onShapeChange(PluginTensorDesc const* inputs, int32_t input_count, PluginTensorDesc const*,
                        int32_t) noexcept override {
    if (input_count != kTensors && input_count != kTensors + 1) return 1;
    padded_ = input_count > kTensors;
    return fits(inputs[0].dims.d[2]) ? 0 : 1;
  }

  int32_t enqueue(PluginTensorDesc const* described, PluginTensorDesc const*, void const* const* inputs,
                  void* const* outputs, void*, cudaStream_t stream) noexcept override {
    Dims const& q = described[0].dims;
    HoiclipDualAttention call{};
    HoiclipTensor* tensors[] = {&call.q, &call.k1, &call.v1, &call.k2, &call.v2};
    for (int32_t i = 0; i < kTensors; ++i) *tensors[i] = tensor(inputs[i], described[i].dims);
    call.out1 = tensor(outputs[0], q);
    call.out2 = tensor(outputs[1], q);
    call.batch = static_cast<int>(q.d[0]);
    call.heads = heads_;
    call.queries = static_cast<int>(q.d[1]);
    call.depth = static_cast<int>(q.d[2] / heads_);
    call.cells1 = static_cast<int>(described[1].dims.d[1]);
    call.cells2 = static_cast<int>(described[3].dims.d[1]);
    call.padding2 = padded_ ? static_cast<unsigned char const*>(inputs[kTensors]) : nullptr;
    call.padding_step = call.cells2;
    call.type = type_of(described[0].type);
    return hoiclip_dual_attention(&call, stream);
  }

  IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }
  PluginFieldCollection const* getFieldsToSerialize() noexcept override { return &fields_; }

 private:
  HoiclipTensor tensor(void const* data, Dims const& dims) const {
    long long const rows = dims.d[1], width = dims.d[2];
    return {data, rows * width, width / heads_, width};
  }
  bool fits(int64_t width) const {
    int64_t const depth = width / heads_;
    return depth * heads_ == width && (depth == 32 || depth == 64 || depth == 96 || depth == 128);
  }

  int32_t heads_;
  bool padded_ = false;
  PluginField field_;
  PluginFieldCollection fields_;
};

class Creator final : public IPluginCreatorV3One {
 public:
  IPluginV3* createPlugin(AsciiChar const*, PluginFieldCollection const* given, TensorRTPhase) noexcept override {
    if (given == nullptr) return nullptr;
    for (int32_t i = 0; i < given->nbFields; ++i) {
      PluginField const& one = given->fields[i];
      if (std::strcmp(one.name, kHeads) != 0) continue;
      int64_t heads = 0;  // ONNX has 64-bit integers; parsers hand over either
      if (one.type == PluginFieldType::kINT32 && one.length == 1) heads = *static_cast<int32_t const*>(one.data);
      if (one.type == PluginFieldType::kINT64 && one.length == 1) heads = *static_cast<int64_t const*>(one.data);
      return heads >= 1 && heads <= 1024 ? new (std::nothrow) Plugin(static_cast<int32_t>(heads)) : nullptr;
    }
    return nullptr;
  }
  PluginFieldCollection const* getFieldNames() noexcept override {
    static PluginField const field(kHeads, nullptr, PluginFieldType::kINT32, 1);
    static PluginFieldCollection const fields{1, &field};
    return &fields;
  }
  AsciiChar const* getPluginName() const noexcept override { return kName; }
  AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
  AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }
};

}  // namespace
}  // namespace hoiclip

extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder*) {}  // it has nothing to say

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static hoiclip::Creator creator;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
  count = 1;
  return creators;
}

// Goes through everything that needs no GPU: 0, or the line of the first thing that is wrong.
extern "C" int hoiclip_plugin_self_test() {
  using namespace nvinfer1;
#define HOICLIP_EXPECT(what) \
  if (!(what)) return __LINE__
  int32_t count = 0;
  auto* creator = static_cast<IPluginCreatorV3One*>(getCreators(count)[0]);
  HOICLIP_EXPECT(count == 1);
  HOICLIP_EXPECT(std::strcmp(creator->getPluginName(), hoiclip::kName) == 0);
  HOICLIP_EXPECT(creator->getFieldNames()->nbFields == 1);

  PluginFieldCollection const none{0, nullptr};
  HOICLIP_EXPECT(creator->createPlugin("", &none, TensorRTPhase::kBUILD) == nullptr);
  int64_t const heads = 8, too_few = 0;
  PluginField field(hoiclip::kHeads, &too_few, PluginFieldType::kINT64, 1);
  PluginFieldCollection const fields{1, &field};
  HOICLIP_EXPECT(creator->createPlugin("", &fields, TensorRTPhase::kBUILD) == nullptr);
  field.data = &heads;
  std::unique_ptr<IPluginV3> first(creator->createPlugin("", &fields, TensorRTPhase::kBUILD));
  HOICLIP_EXPECT(first != nullptr);
  std::unique_ptr<IPluginV3> plugin(first->clone());
  first.reset();
  HOICLIP_EXPECT(plugin != nullptr);

  auto* core = static_cast<IPluginV3OneCore*>(plugin->getCapabilityInterface(PluginCapabilityType::kCORE));
  auto* build = static_cast<IPluginV3OneBuild*>(plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
  auto* runtime = static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  HOICLIP_EXPECT(core && build && runtime);
  HOICLIP_EXPECT(std::strcmp(core->getPluginNamespace(), creator->getPluginNamespace()) == 0);
  HOICLIP_EXPECT(build->getNbOutputs() == 2);

  PluginFieldCollection const* kept = runtime->getFieldsToSerialize();
  std::unique_ptr<IPluginV3> again(creator->createPlugin("", kept, TensorRTPhase::kRUNTIME));
  HOICLIP_EXPECT(again != nullptr);
  HOICLIP_EXPECT(*static_cast<int32_t const*>(kept->fields[0].data) == heads);

  DynamicPluginTensorDesc tensors[8] = {};
  for (auto& tensor : tensors) {
    tensor.desc.type = DataType::kHALF;
    tensor.desc.format = TensorFormat::kLINEAR;
    tensor.desc.dims.nbDims = 3;
    tensor.desc.dims.d[2] = 768;
  }
  tensors[5].desc.type = DataType::kBOOL;
  for (int32_t at = 0; at < 8; ++at) HOICLIP_EXPECT(build->supportsFormatCombination(at, tensors, 6, 2));
  tensors[1].desc.type = DataType::kFLOAT;
  HOICLIP_EXPECT(!build->supportsFormatCombination(1, tensors, 6, 2));
  tensors[5].desc.type = DataType::kHALF;
  HOICLIP_EXPECT(!build->supportsFormatCombination(5, tensors, 6, 2));
  tensors[0].desc.type = DataType::kINT8;
  HOICLIP_EXPECT(!build->supportsFormatCombination(0, tensors, 6, 2));
  HOICLIP_EXPECT(!build->supportsFormatCombination(0, tensors, 4, 2));

  HOICLIP_EXPECT(build->configurePlugin(tensors, 6, tensors + 6, 2) == 0);
  tensors[0].desc.dims.d[2] = 770;
  HOICLIP_EXPECT(build->configurePlugin(tensors, 6, tensors + 6, 2) != 0);
  DataType const inputs[6] = {DataType::kBF16, DataType::kBF16, DataType::kBF16,
                              DataType::kBF16, DataType::kBF16, DataType::kBOOL};
  DataType outputs[2] = {};
  HOICLIP_EXPECT(build->getOutputDataTypes(outputs, 2, inputs, 6) == 0);
  HOICLIP_EXPECT(outputs[0] == DataType::kBF16 && outputs[1] == DataType::kBF16);
#undef HOICLIP_EXPECT
  return 0;
}
