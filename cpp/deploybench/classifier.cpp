#include "deploybench/classifier.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <iterator>
#include <new>
#include <system_error>
#include <utility>

#include "deploybench/artifact.hpp"
#include "deploybench/host.hpp"
#include "deploybench/labels.hpp"
#include "deploybench/pool.hpp"
#include "deploybench/preprocess.hpp"
#include "deploybench/ranking.hpp"
#include "deploybench/routes.hpp"
#include "deploybench/version.hpp"

namespace deploybench {
namespace {

// Also what runs out below it, memory or the system's threads, becomes an Error, as the header promises.
template <typename Work>
auto guarded(const std::string& subject, const Work& work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, subject, "not enough memory for this model and batch",
                "use smaller or fewer images at a time, or fewer instances");
  } catch (const std::system_error& error) {
    throw Error(Code::runtime, subject, error.what(), "use fewer instances or threads");
  } catch (const std::exception& error) {
    throw Error(Code::runtime, subject, error.what(), "please report it");
  }
}

template <typename Number>
void check(const char* name, Number value, Number least, Number most) {
  if (value >= least && value <= most) return;
  throw Error(Code::usage, name, std::to_string(value) + " is out of range",
              "give " + std::to_string(least) + " to " + std::to_string(most));
}

// As the command line does: with too many threads OpenMP would end the process.
void check(const ClassifierOptions& options) {
  check<std::size_t>("instances", options.instances, 1, static_cast<std::size_t>(most_threads));
  check<std::int64_t>("threads", options.threads, 0, most_threads);
  check<std::size_t>("batch_size", options.batch_size, 1, static_cast<std::size_t>(most_images));
  check<std::int64_t>("batch_delay", options.batch_delay.count(), 0, most_delay_us);
}

std::size_t checked_top_k(std::size_t top_k, std::size_t classes) {
  if (top_k == 0) return std::min<std::size_t>(5, classes);
  if (top_k <= classes) return top_k;
  throw Error(Code::usage, "--top-k",
              "'" + std::to_string(top_k) + "' is more than the artifact's " + std::to_string(classes) + " classes",
              "give a smaller one");
}

// As many images as are asked for and as the artifact takes.
PoolOptions pool_options(const ClassifierOptions& options, const Metadata& metadata) {
  const auto [least, most] = metadata.batches;
  PoolOptions pool;
  pool.instances = options.instances;
  pool.least_batch = static_cast<std::size_t>(least);
  pool.most_batch = std::clamp(options.batch_size, static_cast<std::size_t>(least), static_cast<std::size_t>(most));
  pool.most_delay = options.batch_delay;
  pool.queue = options.queue;
  return pool;
}

std::vector<Predictions> all_of(std::vector<std::future<Predictions>>& answers) {
  std::vector<Predictions> all;
  all.reserve(answers.size());
  for (std::future<Predictions>& answer : answers) all.push_back(answer.get());
  return all;
}

std::size_t image_values(const Metadata& metadata) {
  const auto [channels, height, width] = metadata.image_shape();
  return static_cast<std::size_t>(channels * height * width);
}

ClassifierInfo describe(const Artifact& artifact, const ClassifierOptions& options) {
  const Metadata& metadata = artifact.metadata();
  return {.model = metadata.model,
          .route = artifact.route(),
          .precision = metadata.precision,
          .device = metadata.device,
          .weights_origin = metadata.weights_origin,
          .torch_version = libtorch_version(),
          .image_shape = metadata.image_shape(),
          .labels = options.labels.empty() ? metadata.labels : read_labels(options.labels, metadata.classes),
          .warnings = {}};
}

// An instance on the thread that will call it. TorchScript profiles in its first call and compiles in its second.
Pool::Call make_call(const Artifact& loaded, const ClassifierOptions& options, std::int64_t threads,
                     const PoolOptions& pool) {
  constexpr int calls = 3;
  set_up_thread(threads, {.executor = options.warm_up ? "profiling" : "simple"});
  const auto instance = std::make_shared<Artifact>(loaded.another());
  Pool::Call call = [instance](std::span<const float> images) {
    instance->feed(images);
    instance->call();
    const std::span<const float> output = instance->output();
    return std::vector<float>(output.begin(), output.end());
  };
  if (options.warm_up) {
    const std::vector<float> black(pool.most_batch * image_values(loaded.metadata()));
    for (int i = 0; i < calls; ++i) (void)call(black);
  }
  return call;
}

}  // namespace

struct Classifier::State {
  std::string path;
  Artifact artifact;
  ClassifierInfo info;
  std::size_t top_k;
  std::unique_ptr<Pool> pool;  // last: it ends before what its threads use

  State(const std::string& file, const ClassifierOptions& options)
      : path(file),
        artifact(Artifact::load(file, {.device = options.device,
                                       .route = options.route,
                                       .instances = options.instances,
                                       .sha256 = options.sha256})),
        info(describe(artifact, options)),
        top_k(checked_top_k(options.top_k, info.labels.size())) {
    info.warnings = version_warnings(file, metadata().torch_version, info.torch_version, options.strict);
    const PoolOptions pooled = pool_options(options, metadata());
    const auto shared = std::max<std::int64_t>(1, usable_cpus() / static_cast<std::int64_t>(pooled.instances));
    const std::int64_t threads = options.threads > 0 ? options.threads : shared;
    std::ranges::copy(packing_warnings(file, metadata(), threads), std::back_inserter(info.warnings));
    pool = std::make_unique<Pool>(pooled, image_values(metadata()), [&](std::size_t /*instance*/) {
      return make_call(artifact, options, threads, pooled);
    });
  }

  [[nodiscard]] const Metadata& metadata() const { return artifact.metadata(); }

  [[nodiscard]] Predictions predictions(std::span<const float> logits) const {
    if (!std::ranges::all_of(logits, [](float value) { return std::isfinite(value); })) {
      throw Error(Code::runtime, path, "its output holds NaN or infinity", "check the weights it was made with");
    }
    return top_predictions(logits, info.labels, top_k);
  }
};

Classifier::Classifier(const std::string& artifact, const ClassifierOptions& options)
    : state_(guarded(artifact, [&] {
        check(options);
        return std::make_unique<State>(artifact, options);
      })) {}
Classifier::Classifier(Classifier&&) noexcept = default;
Classifier::~Classifier() {
  if (!state_) return;  // moved from
  state_.reset();
  return_free_memory();
}

std::future<Predictions> Classifier::submit(std::vector<float> image) {
  const State& state = *state_;
  if (image.size() != image_values(state.metadata())) {
    throw Error(Code::input_invalid, state.path,
                "takes images of " + std::to_string(image_values(state.metadata())) + " values, not of " +
                    std::to_string(image.size()),
                "see info()");
  }
  return guarded(state.path, [&] {
    // std::function wants what it holds to be copyable.
    const auto promise = std::make_shared<std::promise<Predictions>>();
    std::future<Predictions> answer = promise->get_future();
    state.pool->submit(std::make_shared<const std::vector<float>>(std::move(image)),
                       [&state, promise](std::span<const float> logits, const std::exception_ptr& problem) {
                         try {
                           promise->set_value(guarded(state.path, [&] {
                             if (problem) std::rethrow_exception(problem);
                             return state.predictions(logits);
                           }));
                         } catch (...) {
                           promise->set_exception(std::current_exception());
                         }
                       });
    return answer;
  });
}

std::vector<Predictions> Classifier::classify(std::span<const float> images) {
  const std::size_t one = image_values(state_->metadata());
  if (images.empty() || images.size() % one != 0) {
    throw Error(Code::input_invalid, state_->path,
                std::to_string(images.size()) + " values are no number of images of " + std::to_string(one),
                "see info()");
  }
  return guarded(state_->path, [&] {
    std::vector<std::future<Predictions>> answers;
    for (std::size_t at = 0; at < images.size(); at += one) {
      const std::span<const float> image = images.subspan(at, one);
      answers.push_back(submit({image.begin(), image.end()}));
    }
    return all_of(answers);
  });
}

Predictions Classifier::classify(const std::string& photo) { return submit(prepare(photo)).get(); }

Predictions Classifier::classify(std::span<const std::uint8_t> photo) { return submit(prepare(photo)).get(); }

std::vector<Predictions> Classifier::classify(std::span<const std::string> photos) {
  std::vector<std::future<Predictions>> answers;
  answers.reserve(photos.size());
  for (const std::string& photo : photos) answers.push_back(submit(prepare(photo)));
  return all_of(answers);
}

std::vector<float> Classifier::prepare(const std::string& photo) const {
  return guarded(photo, [&] { return preprocess(read_photo(photo), photo, state_->metadata(), state_->path); });
}

std::vector<float> Classifier::prepare(std::span<const std::uint8_t> photo) const {
  return guarded("photo",
                 [&] { return preprocess(decode_photo(photo, "photo"), "photo", state_->metadata(), state_->path); });
}

const ClassifierInfo& Classifier::info() const noexcept { return state_->info; }

}  // namespace deploybench
