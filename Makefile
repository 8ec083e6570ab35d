# The menu. Each target is a nox session; the environments, the order and the rules are in noxfile.py.
#   make bench MODELS=article DEVICE=cpu ARGS="--threads 1"
#   make bench ROUTES=all PRECISIONS=fp32,bf16
#   make libtorch VARIANT=cu130     make libtorch LIBTORCH=/folder
PYTHON ?= python3
MODELS ?= resnet50
DEVICE ?= cpu
ROUTES ?=
PRECISIONS ?=
ARGS ?=
OWN_NOX := .nox/own/bin/nox
NOX := $(or $(shell command -v nox),$(OWN_NOX))
SESSION = $(NOX) --error-on-missing-interpreters -s
MODEL_FLAGS = --models $(MODELS) --device $(DEVICE) $(if $(ROUTES),--routes $(ROUTES)) \
  $(if $(PRECISIONS),--precisions $(PRECISIONS)) $(ARGS)
LIBTORCH_FLAGS = $(if $(LIBTORCH),--path "$(LIBTORCH)") $(if $(VARIANT),--variant $(VARIANT)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help download libtorch build generate preprocess infer bench bundle report docs tests lint clean distclean
download libtorch build generate preprocess infer bench bundle report docs tests lint: | $(NOX)

help:        ## this list
	@sed -n 's/^\([a-z]*\): *\(.*\)## \(.*\)/  make \1\t\3/p' $(MAKEFILE_LIST) | expand -t 20
	@echo; sed -n 's/^#   /  e.g. /p' $(MAKEFILE_LIST)
download:    ## fetch torchvision's weights of MODELS, for working offline later
	$(SESSION) download -- --models $(MODELS) $(ARGS)
libtorch:    ## get LibTorch into vendor/libtorch
	$(SESSION) libtorch -- $(LIBTORCH_FLAGS)
build:       ## build the C++ programs into cpp/build/bin
	$(SESSION) cpp_build
generate:    ## write the artifacts of MODELS, for ROUTES and PRECISIONS
	$(SESSION) generate -- $(MODEL_FLAGS)
preprocess:  ## turn a photo (ARGS=photo.jpg) into a tensor file for MODELS
	$(SESSION) preprocess -- --model $(MODELS) $(ARGS)
infer:       ## the top 5 of a photo (ARGS=photo.jpg) in Python
	$(SESSION) py_infer -- --model $(MODELS) --device $(DEVICE) $(if $(ROUTES),--route $(ROUTES)) \
	  $(if $(PRECISIONS),--precision $(PRECISIONS)) $(ARGS)
bench:       ## compare Python and C++ on MODELS
	$(SESSION) bench -- $(MODEL_FLAGS)
bundle:      ## make a folder to ship, of MODELS or ARGS="--artifact FILE": C++ program, libraries, artifact
	$(SESSION) bundle -- $(if $(findstring --artifact,$(ARGS)),,--models $(MODELS)) $(ARGS)
report:      ## show the last results again
	$(SESSION) report -- $(ARGS)
docs:        ## build the documents as a site, into dist/docs
	$(SESSION) docs
tests:       ## test both languages
	$(SESSION) tests -- $(ARGS)
lint:        ## check style and types of both languages
	$(SESSION) lint
clean:       ## remove what was built and generated, keep the environments, LibTorch and results
	rm -rf cpp/build* artifacts dist
distclean:   ## remove all that make and nox made, but not results
	rm -rf cpp/build* artifacts dist vendor .nox

$(OWN_NOX):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON): is older than Python 3.11; install one and type: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .nox/own
	.nox/own/bin/python -m pip install --quiet nox -c python/constraints.txt
