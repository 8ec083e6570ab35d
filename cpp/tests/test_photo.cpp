// Orientation and resizing on numbers that can be worked by hand; whole photos are compared with Pillow in
// tests/test_photos.py.
#include "deploybench/photo.hpp"

#include <array>
#include <string>

#include "check.hpp"
#include "deploybench/resize.hpp"

namespace {

using deploybench::exif_orientation;
using deploybench::Filter;
using deploybench::Photo;

// One level for all three colours of a pixel.
Photo gray(std::int64_t height, std::int64_t width, const std::vector<std::uint8_t>& levels) {
  Photo photo{height, width, {}};
  for (const std::uint8_t level : levels) photo.pixels.insert(photo.pixels.end(), 3, level);
  return photo;
}

std::vector<int> levels(const Photo& photo) {
  std::vector<int> found;
  for (std::size_t i = 0; i < photo.pixels.size(); i += 3) found.push_back(photo.pixels[i]);
  return found;
}

TEST(photo, every_orientation_turns_upright) {
  // 1 2 3
  // 4 5 6
  const Photo photo = gray(2, 3, {1, 2, 3, 4, 5, 6});
  const std::array<std::vector<int>, 9> expected = {{{1, 2, 3, 4, 5, 6},
                                                     {1, 2, 3, 4, 5, 6},
                                                     {3, 2, 1, 6, 5, 4},
                                                     {6, 5, 4, 3, 2, 1},
                                                     {4, 5, 6, 1, 2, 3},
                                                     {1, 4, 2, 5, 3, 6},
                                                     {4, 1, 5, 2, 6, 3},
                                                     {6, 3, 5, 2, 4, 1},
                                                     {3, 6, 2, 5, 1, 4}}};
  for (int orientation = 0; orientation < 9; ++orientation) {
    const Photo turned = deploybench::upright(photo, orientation);
    CHECK(levels(turned) == expected[static_cast<std::size_t>(orientation)]);
    CHECK(turned.height == (orientation >= 5 ? 3 : 2));
  }
}

TEST(photo, orientation_is_read_in_both_byte_orders_and_never_past_the_end) {
  const std::vector<std::uint8_t> little = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0};
  const std::vector<std::uint8_t> big = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 8, 0, 0};
  CHECK(exif_orientation(little) == 6 && exif_orientation(big) == 8);
  for (std::size_t size = 0; size < 20; ++size) CHECK(exif_orientation(std::span(little).first(size)) == 1);
  for (const int bad : {0, 9, 255}) {
    std::vector<std::uint8_t> odd = little;
    odd[18] = static_cast<std::uint8_t>(bad);
    CHECK(exif_orientation(odd) == 1);
  }
  std::vector<std::uint8_t> far = little;
  far[5] = far[6] = far[7] = 255;  // the directory lies beyond the block
  CHECK(exif_orientation(far) == 1);
}

Photo whole(const Photo& photo, std::int64_t height, std::int64_t width, Filter filter) {
  return deploybench::resized(photo, height, width, filter, {0, 0, height, width});
}

TEST(photo, halving_weighs_the_neighbours_too) {
  // Twice as wide a triangle: new pixel 0 is at 1.0 and sees old ones at 0.5, 1.5 and 2.5 with 1 - d/2: 0.75 0.75 0.25,
  // of 1.75. 0 0 100 200 -> 25/1.75 = 14.3, and by symmetry (0 + 75 + 150 + ...): 1: (0.25*0 + 0.75*100 +
  // 0.75*200)/1.75.
  const Photo half = whole(gray(1, 4, {0, 0, 100, 200}), 1, 2, Filter::bilinear);
  CHECK((levels(half) == std::vector<int>{14, 129}));
  const Photo same = whole(gray(4, 1, {0, 0, 100, 200}), 2, 1, Filter::bilinear);
  CHECK((levels(same) == std::vector<int>{14, 129}));
}

TEST(photo, bicubic_overshoots_and_is_cut_at_the_ends) {
  const Photo wide = whole(gray(1, 4, {0, 0, 255, 255}), 1, 8, Filter::bicubic);
  const std::vector<int> found = levels(wide);
  CHECK(found.size() == 8 && found[2] == 0 && found[5] == 255 && found[3] < 128 && found[4] > 127);
  CHECK(found[3] + found[4] == 255);
}

// Every part is that of the whole, at borders too, larger and smaller, and where only one side changes.
TEST(photo, a_part_of_a_resized_photo) {
  Photo photo{37, 29, {}};
  for (std::int64_t i = 0; i < std::int64_t{37} * 29 * 3; ++i)
    photo.pixels.push_back(static_cast<std::uint8_t>(i * i % 251));
  for (const auto& [height, width] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {11, 9}, {37, 9}, {11, 29}, {37, 29}, {80, 70}, {1, 1}, {37, 70}}) {
    for (const Filter filter : {Filter::bilinear, Filter::bicubic}) {
      const Photo all = whole(photo, height, width, filter);
      for (const std::int64_t top : {std::int64_t{0}, height / 3, height - 1}) {
        for (const std::int64_t left : {std::int64_t{0}, width / 2, width - 1}) {
          const Photo part =
              deploybench::resized(photo, height, width, filter, {top, left, height - top, width - left});
          bool same = part.height == height - top && part.width == width - left;
          for (std::int64_t y = 0; same && y < part.height; ++y) {
            same = std::equal(part.pixels.begin() + y * part.width * 3, part.pixels.begin() + (y + 1) * part.width * 3,
                              all.pixels.begin() + ((top + y) * width + left) * 3);
          }
          CHECK(same);
        }
      }
    }
  }
}

}  // namespace
