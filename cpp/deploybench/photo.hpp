// Photos: JPEG and PNG files to upright 8-bit RGB pixels, by the rules of python/deploybench/images.py: alpha is
// dropped, colour profiles are ignored, of 16 bits the high byte stays.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace deploybench {

struct Photo {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> pixels;  // [height,width,3] in C order
};

// Reads the file and decodes it by what it holds, not by its name. Throws Error: input_missing; input_invalid for what
// is no JPEG or PNG, truncated, damaged, or of more than 178,956,970 pixels (Pillow's limit); input_invalid, too, with
// the package to install, for a format that this program was built without; out_of_memory.
Photo read_photo(const std::string& path);

// The same from memory; `name` is for errors.
Photo decode_photo(std::span<const std::uint8_t> bytes, const std::string& name);

// The EXIF orientation, 1 to 8, in a TIFF block as APP1 and eXIf hold it; 1 where there is none or it is damaged.
int exif_orientation(std::span<const std::uint8_t> tiff);

// The photo turned so that its first row is the top and its first column the left.
Photo upright(Photo photo, int orientation);

}  // namespace deploybench
