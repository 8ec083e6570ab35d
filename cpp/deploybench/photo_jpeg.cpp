#include "deploybench/photo_codecs.hpp"

#ifdef DEPLOYBENCH_JPEG

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

#include <jpeglib.h>
// after jpeglib.h, which it needs
#include <jerror.h>

namespace deploybench {
namespace {

// libjpeg reports an error by calling error_exit, which must not return; from C code no exception may pass, so it
// jumps.
struct Handler {
  jpeg_error_mgr manager{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump{};
  std::array<char, JMSG_LENGTH_MAX> text{};
};

void fail(j_common_ptr info) {
  auto* const handler = reinterpret_cast<Handler*>(info->err);
  info->err->format_message(info, handler->text.data());
  std::longjmp(handler->jump, 1);  // NOLINT(modernize-avoid-setjmp-longjmp): libjpeg is C
}

// A file that ends early is an error, as in Pillow; other flaws of the data are not.
void note(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) fail(info);
}

// A progressive photo comes in scans, about 10 of them. One of 11 bytes may cost a pass over all pixels, 9 ms where
// they are as many as is allowed: 1 MB of such would take a quarter of an hour. 500 is where libjpeg-turbo's own
// fuzzers stop.
void count_scans(j_common_ptr info) {
  constexpr int most_scans = 500;
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= most_scans) return;
  auto* const handler = reinterpret_cast<Handler*>(info->err);
  (void)std::snprintf(handler->text.data(), handler->text.size(), "more than %d scans", most_scans);
  std::longjmp(handler->jump, 1);  // NOLINT(modernize-avoid-setjmp-longjmp)
}

int orientation_in(const jpeg_decompress_struct& info) {
  constexpr std::string_view exif("Exif\0\0", 6);
  for (const auto* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    const std::span<const std::uint8_t> data(marker->data, marker->data_length);
    if (marker->marker == JPEG_APP0 + 1 && data.size() > exif.size() &&
        std::memcmp(data.data(), exif.data(), exif.size()) == 0) {
      return exif_orientation(data.subspan(exif.size()));
    }
  }
  return 1;
}

std::uint8_t product(unsigned a, unsigned b) {  // a * b / 255, rounded as Pillow does
  const unsigned t = a * b + 128;
  return static_cast<std::uint8_t>((t + (t >> 8U)) >> 8U);
}

// Four inks to RGB by Pillow's arithmetic, which takes every JPEG of four components for Adobe's, inverted.
void rgb_of_inks(const std::uint8_t* inks, std::size_t pixels, std::uint8_t* rgb) {
  for (std::size_t i = 0; i < pixels; ++i) {
    const unsigned light = inks[4 * i + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      rgb[3 * i + c] = static_cast<std::uint8_t>(light - product(255U - inks[4 * i + c], light));
    }
  }
}

// Nothing in here may need a destructor: an error jumps out of it.
bool decode(jpeg_decompress_struct& info, Handler& handler, std::span<const std::uint8_t> bytes, Photo& photo,
            std::vector<std::uint8_t>& line, int& orientation) {
  if (setjmp(handler.jump) != 0) return false;  // NOLINT(modernize-avoid-setjmp-longjmp)
  jpeg_create_decompress(&info);
  info.progress = &handler.progress;  // asked between the rows of each scan
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
  jpeg_mem_src(&info, bytes.data(), static_cast<unsigned long>(bytes.size()));
  (void)jpeg_read_header(&info, TRUE);
  orientation = orientation_in(info);
  if (std::uint64_t{info.image_width} * info.image_height > most_photo_pixels) {
    (void)std::snprintf(handler.text.data(), handler.text.size(), "%s", too_many_pixels);
    return false;
  }
  const bool inks = info.num_components == 4;
  info.out_color_space = inks ? JCS_CMYK : JCS_RGB;
  (void)jpeg_start_decompress(&info);
  photo.height = info.output_height;
  photo.width = info.output_width;
  const std::size_t row = 3 * static_cast<std::size_t>(photo.width);
  photo.pixels.resize(row * static_cast<std::size_t>(photo.height));
  if (inks) line.resize(4 * static_cast<std::size_t>(photo.width));
  while (info.output_scanline < info.output_height) {
    std::uint8_t* const to = photo.pixels.data() + row * info.output_scanline;
    std::uint8_t* into = inks ? line.data() : to;
    (void)jpeg_read_scanlines(&info, &into, 1);
    if (inks) rgb_of_inks(line.data(), static_cast<std::size_t>(photo.width), to);
  }
  (void)jpeg_finish_decompress(&info);
  return true;
}

}  // namespace

Photo decode_jpeg(std::span<const std::uint8_t> bytes) {
  Handler handler;
  jpeg_decompress_struct info{};
  const std::unique_ptr<jpeg_decompress_struct, void (*)(jpeg_decompress_struct*)> owner(
      &info, [](jpeg_decompress_struct* begun) { jpeg_destroy_decompress(begun); });
  info.err = jpeg_std_error(&handler.manager);
  info.err->error_exit = fail;
  info.err->emit_message = note;
  handler.progress.progress_monitor = count_scans;
  Photo photo;
  std::vector<std::uint8_t> line;
  int orientation = 1;
  if (!decode(info, handler, bytes, photo, line, orientation)) {
    if (handler.manager.msg_code == JERR_OUT_OF_MEMORY) throw std::bad_alloc();
    throw CodecError("is truncated or damaged (" + std::string(handler.text.data()) + ")");
  }
  return upright(std::move(photo), orientation);
}

}  // namespace deploybench

#else

namespace deploybench {

Photo decode_jpeg(std::span<const std::uint8_t>) {
  throw CodecError("is a JPEG, and this program was built without libjpeg",
                   "install libjpeg-turbo (Debian: libjpeg-dev), then `make clean build`");
}

}  // namespace deploybench

#endif
