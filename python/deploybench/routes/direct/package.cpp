// A generated network behind AOTInductor's interface, so that LibTorch's package loader loads and calls it as any other
// .pt2.
#include <torch/csrc/inductor/aoti_include/cpu.h>

#include INTERFACE  // of the torch that compiles this: AOTInductorModelContainerRun and its like

#include <cstdint>
#include <stdexcept>
#include <vector>

extern "C" {
void* direct_make_arena();
void direct_free_arena(void* arena);
void direct_run(const float* images, float* logits, std::int64_t count, void* arena);
extern const std::int64_t direct_shape[3];  // channels, height, width
extern const std::int64_t direct_classes;
}
std::uint8_t _binary_constants_bin_start[8] = {};  // AOTInductor's own place for weights: unused
std::uint8_t _binary_constants_bin_end[8] = {};

namespace torch::aot_inductor {
namespace {

// Every instance of the model has its own activations; the weights are constants of the library.
class AOTInductorModelKernels : public AOTInductorModelKernelsBase {
 public:
  AOTInductorModelKernels() : arena(direct_make_arena()) {}
  AOTInductorModelKernels(const AOTInductorModelKernels&) = delete;
  AOTInductorModelKernels& operator=(const AOTInductorModelKernels&) = delete;
  ~AOTInductorModelKernels() override { direct_free_arena(arena); }
  void* arena;
};

}  // namespace

AOTInductorModel::AOTInductorModel(std::shared_ptr<ConstantMap> constants_map,
                                   std::shared_ptr<std::vector<ConstantHandle>> constants_array,
                                   const std::string& device_str, std::optional<std::string> cubin_dir)
    : AOTInductorModelBase(1, 1, 0, device_str, std::move(cubin_dir), true) {
  inputs_info_[0].name = "images";
  outputs_info_[0].name = "logits";
  update_constants_map(std::move(constants_map));
  update_constants_array(std::move(constants_array));
  this->kernels_ = std::make_unique<AOTInductorModelKernels>();
}

std::unordered_map<std::string, AtenTensorHandle> AOTInductorModel::const_run_impl(DeviceStreamType,
                                                                                   AOTIProxyExecutorHandle, bool) {
  return {};
}

void AOTInductorModel::_const_run_impl(std::vector<AtenTensorHandle>&, DeviceStreamType, AOTIProxyExecutorHandle) {}

void AOTInductorModel::run_impl(AtenTensorHandle* input_handles, AtenTensorHandle* output_handles, DeviceStreamType,
                                AOTIProxyExecutorHandle) {
  auto inputs = steal_from_raw_handles_to_raii_handles(input_handles, 1);
  std::int64_t *sizes = nullptr, *strides = nullptr, rank = 0;
  std::int32_t dtype = 0;
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dim(inputs[0], &rank));
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(inputs[0], &sizes));
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(inputs[0], &strides));
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(inputs[0], &dtype));
  const std::int64_t* s = direct_shape;
  if (rank != 4 || sizes[1] != s[0] || sizes[2] != s[1] || sizes[3] != s[2] || dtype != aoti_torch_dtype_float32() ||
      strides[3] != 1 || strides[2] != s[2] || strides[1] != s[1] * s[2] ||
      (sizes[0] > 1 && strides[0] != s[0] * s[1] * s[2])) {
    throw std::runtime_error(
        "the input is not a contiguous float32 tensor [N, channels, height, width] of this model's size");
  }
  void *images = nullptr, *logits = nullptr;
  const std::int64_t out_sizes[] = {sizes[0], direct_classes}, out_strides[] = {direct_classes, 1};
  AtenTensorHandle output = nullptr;
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(2, out_sizes, out_strides, aoti_torch_dtype_float32(),
                                                       aoti_torch_device_type_cpu(), 0, &output));
  RAIIAtenTensorHandle owned(output);
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(inputs[0], &images));
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(output, &logits));
  direct_run(static_cast<const float*>(images), static_cast<float*>(logits), sizes[0],
             static_cast<AOTInductorModelKernels*>(kernels_.get())->arena);
  output_handles[0] = owned.release();
}

}  // namespace torch::aot_inductor
