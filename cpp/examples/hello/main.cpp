// Classifies one photo: hello ARTIFACT PHOTO
#include <deploybench/classifier.hpp>

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: hello ARTIFACT PHOTO\n");
    return 2;
  }
  try {
    deploybench::Classifier classifier(argv[1]);
    for (const deploybench::Prediction& one : classifier.classify(argv[2])) {
      std::printf("%.2f%% %s\n", 100 * one.probability, one.label.c_str());
    }
  } catch (const deploybench::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
