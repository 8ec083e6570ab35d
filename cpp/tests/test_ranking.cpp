// softmax and the top classes against numbers worked by hand.
#include "deploybench/ranking.hpp"

#include <cmath>
#include <numbers>

#include "check.hpp"

namespace {

using deploybench::softmax;

std::vector<std::string> labels() { return {"tench", "Siberian husky", "100% wool", "d", "e"}; }

deploybench::Predictions top_predictions(const std::vector<float>& logits, std::size_t k) {
  const std::vector<std::string> names = labels();
  return deploybench::top_predictions(logits, std::span(names).first(logits.size()), k);
}

bool near(double a, double b) { return std::abs(a - b) < 1e-7; }

TEST(ranking, softmax_of_logarithms_gives_back_the_shares) {
  // exp(0), exp(ln 2), exp(ln 5) are 1, 2, 5 out of 8
  const auto shares = softmax(std::vector<float>{0.0F, std::numbers::ln2_v<float>, std::log(5.0F)});
  CHECK(near(shares[0], 0.125) && near(shares[1], 0.25) && near(shares[2], 0.625));
}

TEST(ranking, softmax_of_large_logits_neither_overflows_nor_moves) {
  const auto shares = softmax(std::vector<float>{1000, 1000, -1000});
  CHECK(shares[0] == 0.5 && shares[1] == 0.5 && shares[2] == 0.0);
}

TEST(ranking, likeliest_first) {
  const auto top = top_predictions(std::vector<float>{-1, 4, 2, 3}, 3);
  CHECK(top.size() == 3 && top[0].index == 1 && top[1].index == 3 && top[2].index == 2);
  CHECK(top[0].label == "Siberian husky" && top[1].label == "d");
}

TEST(ranking, the_lower_index_first_among_equals) {
  const auto top = top_predictions(std::vector<float>{1, 2, 2, 1, 2}, 5);
  CHECK(top[0].index == 1 && top[1].index == 2 && top[2].index == 4 && top[3].index == 0 && top[4].index == 3);
}

TEST(ranking, of_one_class_only) {
  const auto top = top_predictions(std::vector<float>{-7}, 1);
  CHECK(top.size() == 1 && top[0].index == 0 && top[0].probability == 1.0);
}

TEST(ranking, lines_as_people_read_them) {
  const deploybench::Predictions predictions = {
      {1, 0.495249, "Siberian husky"}, {0, 0.00004, "tench"}, {2, 1.0, "100% wool"}};
  CHECK(prediction_lines(predictions) == "49.52% Siberian husky\n0.00% tench\n100.00% 100% wool\n");
}

}  // namespace
