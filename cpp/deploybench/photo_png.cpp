#include "deploybench/photo_codecs.hpp"

#ifdef DEPLOYBENCH_PNG

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <new>

namespace deploybench {
namespace {

struct Source {
  std::span<const std::uint8_t> rest;
  std::string problem;
};

struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;

  explicit Reader(Source& source);
  Reader(const Reader&) = delete;
  Reader(Reader&&) = delete;
  Reader& operator=(const Reader&) = delete;
  Reader& operator=(Reader&&) = delete;
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

void read_some(png_structp png, png_bytep to, std::size_t count) {
  auto* const source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->rest.size()) png_error(png, "the file ends too early");
  std::memcpy(to, source->rest.data(), count);
  source->rest = source->rest.subspan(count);
}

void fail(png_structp png, png_const_charp message) {
  static_cast<Source*>(png_get_error_ptr(png))->problem = message;
  png_longjmp(png, 1);
}

void ignore(png_structp /*png*/, png_const_charp /*message*/) {}

Reader::Reader(Source& source) : png(png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, fail, ignore)) {
  if (png != nullptr) info = png_create_info_struct(png);
}

// Everything to three bytes a pixel: palettes and few bits widened, gray repeated, the low byte and alpha dropped.
void ask_for_rgb(png_structp png, png_infop info) {
  const int colour = png_get_color_type(png, info);
  png_set_strip_16(png);
  if (colour == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (colour == PNG_COLOR_TYPE_GRAY || colour == PNG_COLOR_TYPE_GRAY_ALPHA) {
    if (png_get_bit_depth(png, info) < 8) png_set_expand_gray_1_2_4_to_8(png);
    png_set_gray_to_rgb(png);
  }
  png_set_strip_alpha(png);
  (void)png_set_interlace_handling(png);
  png_read_update_info(png, info);
}

int orientation_in(png_structp png, png_infop info) {
  png_uint_32 size = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png, info, &size, &exif) == 0) return 1;
  return exif_orientation({exif, size});
}

// Nothing in here may need a destructor: an error jumps out of it.
bool decode(png_structp png, png_infop info, Photo& photo, std::vector<png_bytep>& rows, int& orientation) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;  // NOLINT(modernize-avoid-setjmp-longjmp): libpng is C
  png_read_info(png, info);
  const std::uint64_t pixels = std::uint64_t{png_get_image_width(png, info)} * png_get_image_height(png, info);
  if (pixels > most_photo_pixels) png_error(png, too_many_pixels);
  ask_for_rgb(png, info);
  photo.width = png_get_image_width(png, info);
  photo.height = png_get_image_height(png, info);
  const std::size_t row = png_get_rowbytes(png, info);
  if (row != 3 * static_cast<std::size_t>(photo.width)) png_error(png, "pixels of an unknown kind");
  photo.pixels.resize(row * static_cast<std::size_t>(photo.height));
  rows.resize(static_cast<std::size_t>(photo.height));
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = photo.pixels.data() + y * row;
  png_read_image(png, rows.data());
  png_read_end(png, info);  // eXIf may stand behind the pixels
  orientation = orientation_in(png, info);
  return true;
}

}  // namespace

Photo decode_png(std::span<const std::uint8_t> bytes) {
  Source source{bytes, ""};
  Photo photo;
  std::vector<png_bytep> rows;
  int orientation = 1;
  const Reader reader(source);
  if (reader.info == nullptr) throw std::bad_alloc();
  png_set_read_fn(reader.png, &source, read_some);
  png_set_user_limits(reader.png, 0x7FFFFFFF, 0x7FFFFFFF);
  if (!decode(reader.png, reader.info, photo, rows, orientation)) {
    if (source.problem == "Out of memory") throw std::bad_alloc();  // libpng has no code for it
    throw CodecError("is truncated or damaged (" + source.problem + ")");
  }
  return upright(std::move(photo), orientation);
}

}  // namespace deploybench

#else

namespace deploybench {

Photo decode_png(std::span<const std::uint8_t>) {
  throw CodecError("is a PNG, and this program was built without libpng",
                   "install libpng (Debian: libpng-dev), then `make clean build`");
}

}  // namespace deploybench

#endif
