// Many photos through a classifier: some are read and prepared while others are classified. The answers come in order.
// Knows nothing of LibTorch.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <span>
#include <string>
#include <vector>

#include "deploybench/answers.hpp"
#include "deploybench/predictions.hpp"

namespace deploybench {

// What is given, in its order; in the place of a folder its .jpg, .jpeg and .png files, those of its folders too,
// sorted by name, and the folders in it that cannot be read: who reads them says why. Throws Error(input_missing) for a
// folder that has neither.
std::vector<std::string> photo_files(std::span<const std::string> inputs);

// The lines of a file that names photos, `-` for standard input: more of them than a command line holds. Throws
// Error(input_missing) or Error(input_invalid) where there is no such file, an empty line or none at all.
std::vector<std::string> listed_files(const std::string& list);

// Reads a photo, prepares it and hands it over; throws what makes that impossible. Called from many threads.
using Submit = std::function<std::future<Predictions>(const std::string& photo)>;

// Calls `show` on this thread with the answer of each photo, in order, as soon as it is there; of one that is missing
// or damaged, with its problem. `readers` >= 1: threads that call `submit`. `ahead` >= 1: photos that are begun before
// an earlier one is shown. Once `stop` is true no other photo is begun; those at hand are still shown. An exception of
// `show`, or one of `submit` or of an answer that is not about the photo, ends it and is thrown.
void stream(std::span<const std::string> photos, std::size_t readers, std::size_t ahead, const Submit& submit,
            const std::function<void(const Answer&)>& show, const std::atomic<bool>& stop);

}  // namespace deploybench
