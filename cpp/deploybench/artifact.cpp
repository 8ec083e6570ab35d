// The one source that includes LibTorch: a second would cost another 13 s a build, which is why this one runs over 200
// lines.
#include "deploybench/artifact.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/Event.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_cpu.h>
#include <torch/csrc/jit/codegen/onednn/interface.h>
#include <torch/csrc/jit/runtime/print_handler.h>
#include <torch/cuda.h>
#include <torch/script.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <mutex>
#include <new>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "deploybench/cuda.hpp"
#include "deploybench/file.hpp"
#include "deploybench/host.hpp"
#include "deploybench/mapped_library.hpp"
#include "deploybench/routes.hpp"
#include "deploybench/sha256.hpp"
#include "deploybench/torch_text.hpp"

namespace deploybench {
namespace {

constexpr const char* generate_command = "make it with `deploybench generate --models MODEL`";
constexpr const char* unpacking_remedy =
    "set TMPDIR to a folder that can be written to, has room for it, and is not mounted noexec";
constexpr const char* metadata_record = "extra/deploybench.json";
constexpr const char* direct_library = "data/aotinductor/model/direct.wrapper.so";

std::string make_again(const std::string& path, const Metadata& metadata) {
  return "make it again: " + making(path, metadata) + " with --force";
}

// `metadata` of the artifact at `path`, where it could be read.
[[noreturn]] void rethrow(const std::string& path, Code code, const std::string& message, const Metadata* metadata) {
  if (is_memory_shortage(message)) {
    throw Error(Code::out_of_memory, path, "not enough memory for this model and batch", "use a smaller batch");
  }
  if (is_unpacking_problem(message)) {
    throw Error(Code::runtime, path, "cannot be unpacked (" + essence(message) + ")", unpacking_remedy);
  }
  const bool known = metadata != nullptr && !metadata->model.empty();
  throw Error(code, path, essence(message), known ? make_again(path, *metadata) : generate_command);
}

// Runs what calls into torch, and turns every exception of torch into an Error with `code` and one line of text.
template <typename Work>
auto guarded(const std::string& path, Code code, const Work& work, const Metadata* metadata = nullptr) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::system_error&) {  // no thread is left: not the artifact's fault
    throw;
  } catch (const c10::Error& error) {
    rethrow(path, code, error.what_without_backtrace(), metadata);
  } catch (const std::exception& error) {
    rethrow(path, code, error.what(), metadata);
  }
}

// Torch's own default, or its 20 compilations (pytorch issue 52286) spent on one sort.
torch::jit::FusionStrategy fusion_strategy(const std::string& name) {
  using torch::jit::FusionBehavior;
  if (name == "static") return {{FusionBehavior::STATIC, 20}};
  if (name == "dynamic") return {{FusionBehavior::DYNAMIC, 20}};
  return {{FusionBehavior::STATIC, 2}, {FusionBehavior::DYNAMIC, 10}};
}

void check_cuda(const std::string& path) {
  if (torch::cuda::is_available()) return;
  const std::string version = libtorch_version();
  if (version.ends_with("+cpu")) {
    throw Error(Code::device_unavailable, path, "needs CUDA, but LibTorch " + version + " is a CPU build",
                "`make libtorch VARIANT=auto` takes a CUDA build where there is an NVIDIA driver, then `make build`");
  }
  throw Error(Code::device_unavailable, path, "LibTorch " + version + " finds no CUDA device or driver",
              "see what nvidia-smi says, or use an artifact of `deploybench generate --device cpu`");
}

void check_device(const std::string& path, const LoadOptions& options, const Metadata& metadata) {
  const auto make = [&](const std::string& device) { return "make one with " + making(path, metadata, "", device); };
  if (!options.device.empty() && options.device != metadata.device) {
    throw Error(Code::artifact_device, path, "made for " + metadata.device + ", not for " + options.device,
                make(options.device));
  }
  if (options.cuda_graph && metadata.device != "cuda") {
    throw Error(Code::usage, "--cuda-graph on", path + " is for the CPU", make("cuda"));
  }
  if (metadata.device == "cuda") check_cuda(path);
}

// What can be said without torch's reader; its own words for these cases are about miniz and pickles.
void check_file(const std::string& path) {
  const FileBlame blame{Code::artifact_missing, Code::artifact_invalid, generate_command};
  checked_size(path, blame);
  if (!read_prefix(path, 4, blame).starts_with("PK\x03\x04")) {
    throw Error(Code::artifact_invalid, path, "not an artifact: TorchScript files are zip files", generate_command);
  }
}

// An entry of a package is unpacked under its name: one that leads out of the folder is no honest one.
void check_entries(caffe2::serialize::PyTorchStreamReader& reader, const std::string& path) {
  for (const std::string& name : reader.getAllRecords()) {
    if (name.starts_with('/') || ("/" + name + "/").find("/../") != std::string::npos) {
      throw Error(Code::artifact_invalid, path, "an entry of it leads out of its folder: " + name,
                  "do not use it; " + std::string(generate_command));
    }
  }
}

// `readable`: where the file can be read, see OpenFile; `path` is for errors.
Metadata metadata_in(const std::string& readable, const std::string& path) {
  std::optional<caffe2::serialize::PyTorchStreamReader> reader;
  try {
    reader.emplace(readable);
  } catch (const c10::Error&) {
    throw Error(Code::artifact_invalid, path, "a truncated or damaged artifact, or no TorchScript file",
                generate_command);
  }
  check_entries(*reader, path);
  const bool has_code = reader->hasRecord("constants.pkl");
  const bool is_package = reader->hasRecord("archive_format");  // .pt2
  if (!reader->hasRecord(metadata_record)) {
    throw Error(Code::artifact_invalid, path,
                has_code || is_package ? "not made by deploybench: it holds no deploybench.json"
                                       : "no TorchScript file: it runs in Python only",
                generate_command);
  }
  if (reader->getRecordSize(metadata_record) > most_metadata_bytes) {
    throw Error(Code::artifact_invalid, path, "its deploybench.json is larger than 4 MiB", generate_command);
  }
  const auto [data, size] = reader->getRecord(metadata_record);
  Metadata metadata = parse_metadata({static_cast<const char*>(data.get()), size}, path);
  if (!has_code && !is_package) {
    throw Error(Code::artifact_invalid, path, "route " + metadata.route + " runs in Python only",
                "make one for C++ with " + making(path, metadata, "script"));
  }
  return metadata;
}

// A package is a library, and what its code keeps for a thread (AOTInductor's last error) keeps the whole of it,
// weights included, in memory until that thread ends. So threads of their own load it and end it: without, each
// classifier that a long-lived thread makes and destroys leaves one behind.
template <typename Work>
auto on_own_thread(const Work& work) {
  return std::async(std::launch::async, work).get();
}

using Package = torch::inductor::AOTIModelPackageLoader;
using Runner = torch::inductor::AOTIModelContainerRunner;

struct PackageEnd {
  template <typename Loaded>
  void operator()(Loaded* loaded) const noexcept {
    try {
      on_own_thread([loaded] { delete loaded; });
    } catch (const std::system_error&) {  // no thread is left
      delete loaded;
    }
  }
};

// What runs a package whose weights may be mapped; null where this system or this file does not let them be.
Runner* mapped_runner(const OpenFile& file, const Metadata& metadata, std::size_t instances) {
  std::optional<MappedLibrary> library;
  try {
    caffe2::serialize::PyTorchStreamReader reader(file.readable());
    library.emplace(
        file.descriptor(),
        LibraryPlace{reader.getRecordOffset(direct_library), reader.getRecordSize(direct_library),
                     static_cast<std::uint64_t>(metadata.mapped[0]), static_cast<std::uint64_t>(metadata.mapped[1])});
  } catch (const std::exception&) {
    return nullptr;  // LibTorch's loader has words for what is wrong
  }
  return new torch::inductor::AOTIModelContainerRunnerCpu(library->name(), instances);
}

// oneDNN Graph's fuser is a switch of the whole process, a pass in a list without a lock: what TorchScript compiles
// while it is on is fused, and torch 2.13 computes what was not rewritten for it wrong (routes/graph.py). So it is
// thrown only where no other TorchScript is there, and a model of the other sort is refused as long as one is.
class Fuser {
 public:
  Fuser(bool wanted, const std::string& path, std::string_view route) {
    const std::scoped_lock lock(mutex);
    if (users > 0 && on != wanted) {
      throw Error(Code::usage, path,
                  "route " + std::string(route) + " cannot run beside " +
                      (wanted ? "other TorchScript" : "route fused") + " in one process",
                  "end that classifier first, use a process for each, or make a .pt2 file, which runs beside both");
    }
    if (on != wanted) (void)torch::jit::RegisterLlgaFuseGraph::setEnabled(wanted);
    on = wanted;
    ++users;
  }
  Fuser(const Fuser&) = delete;
  Fuser(Fuser&&) = delete;
  Fuser& operator=(const Fuser&) = delete;
  Fuser& operator=(Fuser&&) = delete;
  ~Fuser() {
    const std::scoped_lock lock(mutex);
    --users;
  }

 private:
  static inline std::mutex mutex;
  static inline std::size_t users = 0;  // models of TorchScript
  static inline bool on = false;
};

OpenFile open_artifact(const std::string& path, const std::string& sha256) {
  check_file(path);
  OpenFile file(path, {Code::artifact_missing, Code::artifact_invalid, generate_command});
  if (!sha256.empty()) check_sha256(file, path, sha256);
  return file;
}

}  // namespace

// What all instances share; run at the same time by several.
struct Artifact::Model {
  std::string path;
  Metadata metadata;
  c10::Device device = c10::kCPU;
  const Route* route = nullptr;
  bool cuda_graph = false;
  std::optional<Fuser> fuser;                    // before the module: nothing of it may be compiled without
  torch::jit::Module module;                     // TorchScript
  std::unique_ptr<Package, PackageEnd> package;  // AOTInductor
  std::unique_ptr<Runner, PackageEnd> runner;    // one whose weights are mapped, in its place

  void load(const OpenFile& file, const LoadOptions& options);
  c10::IValue run(const at::Tensor& images);
};

struct Artifact::State {
  explicit State(std::shared_ptr<Model> shared) : model(std::move(shared)) {
    if (model->cuda_graph) graph = make_cuda_graph();
  }

  std::shared_ptr<Model> model;
  std::unique_ptr<CudaGraph> graph;  // where the call is recorded and replayed
  at::Tensor input;                  // on the device
  at::Tensor output;                 // float32 on the host

  c10::IValue forward();
  c10::IValue timed_forward(CallTime& time);
  c10::IValue timed_forward_on_device(CallTime& time);
  void keep(const c10::IValue& result);

  // Kept from call to call: making an event costs about what recording one does, and would fall inside the clock.
  struct Events {
    c10::Event begin;
    c10::Event end;
  };
  std::optional<Events> events;
};

void Artifact::Model::load(const OpenFile& file, const LoadOptions& options) {
  const std::string& readable = file.readable();
  metadata = metadata_in(readable, path);
  check_device(path, options, metadata);
  route = &choose_route(path, metadata, options.route);
  const bool cuda = metadata.device == "cuda";
  check_machine(path, metadata, cpu_flags(), libtorch_version(), cuda ? gpu_architecture() : "");
  device = cuda ? c10::Device(c10::kCUDA, 0) : c10::Device(c10::kCPU);
  cuda_graph = options.cuda_graph;
  // Not where a checksum was asked for: what is mapped would change with the file.
  if (route->package && metadata.mapped[1] > 0 && options.sha256.empty()) {
    runner.reset(on_own_thread([&] {
      const c10::InferenceMode guard;
      return mapped_runner(file, metadata, options.instances);
    }));
  }
  if (runner) return;
  if (route->package) {
    // Alone on CUDA without its bookkeeping for several threads: events and their queries, which no graph can record.
    package.reset(on_own_thread([&] {
      const c10::InferenceMode guard;
      return new Package(readable, "model", cuda && options.instances == 1, options.instances);
    }));
  } else {
    fuser.emplace(route->name == "fused", path, route->name);
    module = torch::jit::load(readable, device, /*load_debug_files=*/false);
    module.eval();
  }
}

c10::IValue Artifact::Model::run(const at::Tensor& images) {
  if (runner) return runner->run({images}).at(0);
  if (package) return package->run({images}).at(0);
  return module.forward({images});
}

// Nothing but the forward call between the two readings: what else a call needs is done before or after.
c10::IValue Artifact::State::forward() {
  if (!graph) return model->run(input);
  return graph->call([this](const at::Tensor& images) { return model->run(images); }, input);
}

c10::IValue Artifact::State::timed_forward(CallTime& time) {
  const auto begin = std::chrono::steady_clock::now();
  c10::IValue result = forward();
  time.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

// Kernels are only queued by forward, so the clock must wait for the device on both sides. Through c10's device-neutral
// interface: CUDA's own headers come with the toolkit, which need not be there.
c10::IValue Artifact::State::timed_forward_on_device(CallTime& time) {
  const c10::Device& device = model->device;
  const c10::impl::VirtualGuardImpl cuda(device.type());
  const c10::Stream stream = cuda.getStream(device);
  constexpr auto timing = c10::EventFlag::BACKEND_DEFAULT;  // the other flag makes events without a time
  Events& kept =
      events ? *events : events.emplace(Events{c10::Event(device.type(), timing), c10::Event(device.type(), timing)});
  cuda.synchronizeDevice(device.index());
  const auto begin = std::chrono::steady_clock::now();
  kept.begin.record(stream);
  c10::IValue result = forward();
  kept.end.record(stream);
  cuda.synchronizeDevice(device.index());
  time.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  time.device_seconds = kept.begin.elapsedTime(kept.end) / 1000;  // from milliseconds
  return result;
}

// On the CPU a float32 output is kept as it is, without a copy.
void Artifact::State::keep(const c10::IValue& result) {
  const bool fits = result.isTensor() && result.toTensor().is_floating_point() &&
                    result.toTensor().sizes() == at::IntArrayRef({input.size(0), model->metadata.classes});
  if (!fits) {
    throw Error(Code::artifact_invalid, model->path,
                "its output is not one tensor [N," + std::to_string(model->metadata.classes) + "]",
                make_again(model->path, model->metadata));
  }
  output = result.toTensor().to(at::Device(at::kCPU), at::kFloat).contiguous();
}

void set_up_thread(std::int64_t threads, const Knobs& knobs) {
  guarded("LibTorch", Code::runtime, [&] {
    at::set_num_threads(static_cast<int>(threads));
    torch::jit::setGraphExecutorOptimize(knobs.executor == "profiling");
    at::globalContext().setFlushDenormal(knobs.flush_denormal == "on");
  });
}

std::string libtorch_version() { return version_from_config(at::show_config()); }

void keep_stdout_for_data() {
  torch::jit::setPrintHandler([](const std::string& text) { (void)std::fputs(text.c_str(), stderr); });
}

RuntimeInfo set_up_runtime(std::int64_t threads, std::int64_t interop_threads, const Knobs& knobs) {
  set_up_thread(threads, knobs);
  // Heard by cuDNN and cuBLAS, also where torch does not pass its own flag on: see docs/gpu.md.
  if (knobs.tf32 == "off") (void)setenv("NVIDIA_TF32_OVERRIDE", "0", 1);
  return guarded("LibTorch", Code::runtime, [&] {
    at::set_num_interop_threads(static_cast<int>(interop_threads));
    torch::jit::FusionStrategy strategy = fusion_strategy(knobs.fusion_strategy);
    torch::jit::setFusionStrategy(strategy);
    at::Context& context = at::globalContext();
    context.setAllowTF32CuBLAS(knobs.tf32 == "on");
    context.setAllowTF32CuDNN(knobs.tf32 == "on");
    context.setBenchmarkCuDNN(knobs.cudnn_benchmark == "on");
    // The second count is an int or a size_t, by torch's version.
    return RuntimeInfo{libtorch_version(), at::get_cpu_capability(), at::get_num_threads(),
                       static_cast<std::int64_t>(at::get_num_interop_threads()), knobs};
  });
}

Metadata read_metadata(const std::string& path, const std::string& sha256) {
  const OpenFile file = open_artifact(path, sha256);
  return guarded(path, Code::artifact_invalid, [&] { return metadata_in(file.readable(), path); });
}

std::vector<float> seeded_input(std::uint64_t seed, std::int64_t batch, const Metadata& metadata) {
  return guarded("--batch-size", Code::runtime, [&] {
    const auto& shape = metadata.input_shape;
    at::manual_seed(seed);
    const at::Tensor drawn = at::randn({batch, shape[1], shape[2], shape[3]});
    const auto* const values = drawn.const_data_ptr<float>();
    return std::vector<float>(values, values + drawn.numel());
  });
}

Artifact::Artifact(std::unique_ptr<State> state) : state_(std::move(state)) {}
Artifact::Artifact(Artifact&&) noexcept = default;
Artifact::~Artifact() = default;

Artifact Artifact::load(const std::string& path, const LoadOptions& options) {
  const OpenFile file = open_artifact(path, options.sha256);
  auto model = std::make_shared<Model>();
  model->path = path;
  const auto load = [&] {
    const c10::InferenceMode guard;
    model->load(file, options);
    return Artifact(std::make_unique<State>(model));
  };
  return guarded(path, Code::artifact_invalid, load, &model->metadata);
}

Artifact Artifact::another() const {
  const auto share = [&] { return Artifact(std::make_unique<State>(state_->model)); };
  return guarded(state_->model->path, Code::runtime, share, &state_->model->metadata);
}

const Metadata& Artifact::metadata() const { return state_->model->metadata; }
std::string Artifact::route() const { return std::string(state_->model->route->name); }

void Artifact::feed(std::span<const float> images) {
  State& s = *state_;
  const Model& model = *s.model;
  const auto& shape = model.metadata.input_shape;
  const std::int64_t batch = static_cast<std::int64_t>(images.size()) / (shape[1] * shape[2] * shape[3]);
  check_batch(model.path, model.metadata, batch);
  const auto copy = [&] {
    const c10::InferenceMode guard;
    // from_blob wants a mutable pointer; clone() and to() only read it.
    const at::Tensor view =
        at::from_blob(const_cast<float*>(images.data()), {batch, shape[1], shape[2], shape[3]}, at::kFloat);
    s.input = view.clone().to(model.device);
  };
  guarded(model.path, Code::runtime, copy, &model.metadata);
}

CallTime Artifact::call() {
  State& s = *state_;
  const auto timed = [&] {
    const c10::InferenceMode guard;
    CallTime time;
    s.keep(s.model->device.is_cuda() ? s.timed_forward_on_device(time) : s.timed_forward(time));
    return time;
  };
  return guarded(s.model->path, Code::runtime, timed, &s.model->metadata);
}

std::span<const float> Artifact::output() const {
  return {state_->output.const_data_ptr<float>(), static_cast<std::size_t>(state_->output.numel())};
}

}  // namespace deploybench
