# Builds clipipe. `make help` lists the targets.
#
#   VARIANT=release|debug|asan|tsan   what to build; each has a directory of its own
#   CUDA=auto|1|0                     the CUDA backend: where nvcc is, always, never
#   CUDA_ARCH="90a 80"                the GPUs that it is built for: 90a Hopper, 80 Ampere; [90a]
#   PREFIX, DESTDIR                   where `make install` puts it
# The user's CFLAGS and LDFLAGS are added, never replaced.

VARIANT ?= release
CUDA ?= auto
CUDA_ARCH ?= 90a
PREFIX ?= /usr/local
VERSION := 0.1.0
COMMIT := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

# ---- directories: release programs are in build/bin, the other variants beside it ----
build := build$(if $(filter-out release,$(VARIANT)),/$(VARIANT))
bin := $(build)/bin

# ---- compiler ----
warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
            -Wwrite-strings -Wvla -Wundef -Wno-pass-failed
variant_release := -O2 -g -fno-omit-frame-pointer
variant_debug := -O0 -g3
variant_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
                -fno-sanitize-recover=all
variant_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
variant_flags := $(variant_$(VARIANT))
ifeq ($(variant_flags),)
  $(error VARIANT=$(VARIANT) is not one of release debug asan tsan)
endif

packages := libarchive libjpeg libwebp libpng libzstd zlib jansson libutf8proc
package_cflags := $(shell pkg-config --cflags $(packages) 2>/dev/null)
package_libs := $(shell pkg-config --libs $(packages) 2>/dev/null)

# Text in pictures, for `rec view` alone: the other programs do not take its objects.
drawing_cflags := $(shell pkg-config --cflags pangocairo 2>/dev/null)
drawing_libs := $(shell pkg-config --libs pangocairo 2>/dev/null)

ours := -std=c11 -D_GNU_SOURCE -Icommon -I. $(warnings) $(variant_flags) -pthread -fopenmp \
        $(package_cflags)
libs := $(package_libs) -ldnnl -ldl -lm -pthread
link = $(CC) $(variant_flags) -fopenmp $(CFLAGS) $(LDFLAGS)

# ---- sources ----
library_sources := $(wildcard common/*/*.c kernels/*.c kernels/*/*.c)
library_objects := $(library_sources:%.c=$(build)/obj/%.o)
library := $(build)/libclipipe.a
stages := $(patsubst stages/%.c,%,$(wildcard stages/*.c))
programs := $(stages:%=$(bin)/%)
manuals := $(wildcard stages/*.1)

unit_tests := $(patsubst %.c,$(build)/%,$(wildcard tests/unit/*.c tests/kernels/*.c))
script_tests := $(wildcard tests/stages/*.sh tests/faults/*.sh tests/pipelines/*.sh)
long_tests := $(wildcard tests/long/*.sh)
fuzz_sources := $(wildcard tests/fuzz/fuzz_*.c)
fuzz_replays := $(fuzz_sources:tests/fuzz/%.c=$(build)/tests/fuzz/%)
benches := $(patsubst %.c,$(build)/%,$(wildcard tests/bench/*.c))

.PHONY: all cuda gpu-programs check check-cuda bench-cuda check-graphs check-emulated check-long check-parity bench fuzz lint install uninstall dist clean help
.DELETE_ON_ERROR:
.SECONDARY:

# ---- CUDA: is it wanted? ----
NVCC ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc) nvcc)
ifeq ($(filter auto 0 1,$(CUDA)),)
  $(error CUDA=$(CUDA) is not one of auto 0 1)
endif
cuda_wanted := $(filter 1,$(CUDA))$(if $(filter auto,$(CUDA)),$(shell command -v $(NVCC) 2>/dev/null))

all: $(programs) $(if $(cuda_wanted),cuda)

# ---- compiling and linking ----
$(build)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ours) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The version is compiled into one object, made again when the commit changes.
$(build)/obj/common/frame/version.o: ours += -DCLIPIPE_VERSION='"$(VERSION)"' \
                                             -DCLIPIPE_COMMIT='"$(COMMIT)"'
$(build)/obj/common/frame/version.o: $(build)/commit
$(build)/commit: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' > $@
FORCE:

# The tagger's model is taken in by the assembler.
$(build)/obj/common/formats/tagger_english.o: common/formats/tagger_english.model
$(build)/obj/common/formats/contact_sheet.o: ours += $(drawing_cflags)
$(bin)/rec $(build)/tests/unit/test_contact_sheet: libs += $(drawing_libs)

$(library): $(library_objects)
	@rm -f $@
	$(AR) rcs $@ $^

$(bin)/%: $(build)/obj/stages/%.o $(library)
	@mkdir -p $(@D)
	$(link) -o $@ $^ $(libs)

$(build)/tests/%: $(build)/obj/tests/%.o $(library)
	@mkdir -p $(@D)
	$(link) -o $@ $^ $(libs)

# ---- CUDA: a shared object of its own, and its kernels as C++ for the emulator ----
cuda_home := $(patsubst %/bin/nvcc,%,$(shell command -v $(NVCC) 2>/dev/null))
gencode := $(foreach arch,$(CUDA_ARCH),-gencode=arch=compute_$(arch),code=sm_$(arch))
empty :=
cuda_build := $(build)/obj/sm_$(subst $(empty) $(empty),_,$(strip $(CUDA_ARCH)))
cuda_sources := $(wildcard kernels/cuda/*.cu)
cuda_objects := $(cuda_sources:%.cu=$(cuda_build)/%.o)
cuda_headers := $(wildcard kernels/cuda/*.h kernels/kernels.h)
cuda_libs := -L$(cuda_home)/lib64 -lcublasLt -lcudart_static -lrt
cuda: $(build)/lib/libclipipe-cuda.so
$(cuda_build)/%.o: %.cu $(cuda_headers)
	@mkdir -p $(@D)
	$(NVCC) -std=c++17 -O3 $(gencode) -Icommon -I. \
	    -Xcompiler -fPIC,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-Wall,-Wextra \
	    -Xptxas -v -c -o $@ $< 2> $@.ptxas || { cat $@.ptxas; exit 1; }
$(build)/lib/libclipipe-cuda.so: $(cuda_objects) $(build)/obj/pic/common/base/error.o
	@mkdir -p $(@D)
	$(CC) -shared -o $@ $^ $(LDFLAGS) -Wl,--no-undefined -Wl,-rpath,$(cuda_home)/lib64 \
	    $(cuda_libs) -ldl -lm
$(build)/obj/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ours) $(CPPFLAGS) $(CFLAGS) -fPIC -c -o $@ $<

# Programs for a machine with a GPU, which may be another one (tests/bench/gpu-session.sh).
gpu_programs := $(patsubst %,$(build)/tests/emulator/%,check_cuda bench_cuda check_graphs)
gpu-programs: $(gpu_programs)
$(build)/tests/emulator/check_cuda: $(patsubst %,$(build)/obj/tests/emulator/%.o, \
                                      check_cuda check_cuda_model backend_checks)
$(build)/tests/emulator/bench_cuda: $(cuda_build)/tests/emulator/bench_cuda.o \
                                    $(build)/obj/tests/emulator/bench_cuda_model.o
$(build)/tests/emulator/check_graphs: $(build)/obj/tests/emulator/check_graphs.o \
                                      $(cuda_build)/kernels/cuda/cuda_graph.o
$(filter-out %_graphs,$(gpu_programs)): $(cuda_objects)
$(gpu_programs): $(library)
	@mkdir -p $(@D)
	$(link) -Wl,--as-needed -Wl,-rpath,'$$ORIGIN/lib:$(cuda_home)/lib64' -o $@ \
	    $(filter %.o,$^) $(library) $(libs) $(cuda_libs)

emulated_sources := $(filter-out $(patsubst %,kernels/cuda/cuda_%.cu,matmul blas timing graph),$(cuda_sources)) \
                    $(filter-out tests/emulator/test_%,$(wildcard tests/emulator/*.cc))
emulated_objects := $(emulated_sources:%=$(build)/obj/emulated/%.o) \
                    $(build)/obj/tests/emulator/backend_checks.o
emulated_tests := $(patsubst %.cc,$(build)/%,$(wildcard tests/emulator/test_*.cc))
$(build)/obj/emulated/%.o: %
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -D_GNU_SOURCE -Icommon -I. -Itests/emulator -Wall -Wextra -Wshadow -Wundef \
	    -Wno-unknown-pragmas -O2 -g -fno-exceptions -fno-rtti -fno-threadsafe-statics \
	    $(CXXFLAGS) -MMD -MP -x c++ -c -o $@ $<
$(emulated_tests): $(build)/%: $(build)/obj/emulated/%.cc.o $(emulated_objects) $(library)
	@mkdir -p $(@D)
	$(CXX) $(variant_flags) -fopenmp $(CXXFLAGS) $(LDFLAGS) -o $@ $^ $(libs)

$(fuzz_replays): $(build)/tests/fuzz/%: $(build)/obj/tests/fuzz/%.o \
                 $(build)/obj/tests/fuzz/replay.o $(library)
	@mkdir -p $(@D)
	$(link) -o $@ $^ $(libs)

# ---- tests ----
# The fibers of the emulator are not for sanitizers.
checked_emulated := $(if $(filter release debug,$(VARIANT)),$(emulated_tests))
check: $(programs) $(unit_tests) $(fuzz_replays) $(checked_emulated)
	@BUILD=$(build) sh tests/run.sh $(unit_tests) $(fuzz_replays) $(checked_emulated) \
	    $(script_tests)

# Of these, the CUDA kernels alone: thread by thread on the processor.
check-emulated: $(emulated_tests)
	@BUILD=$(build) sh tests/run.sh $(emulated_tests)

# On a GPU: 69 where there is none.
check-cuda: $(build)/tests/emulator/check_cuda
	$<

bench-cuda: $(build)/tests/emulator/bench_cuda
	$<

# Needs cuDNN, but no GPU.
check-graphs: $(build)/tests/emulator/check_graphs
	$< $(cuda_home)/lib64/stubs/libcuda.so

check-long: $(programs)
	@BUILD=$(build) sh tests/run.sh $(long_tests)

# Against open_clip on PyTorch, in a virtual environment below build/: random configurations,
# weights and inputs, both ways.
check-parity: $(programs)
	@BUILD=$(build) CC="$(CC)" sh tests/reference/parity.sh

bench: $(programs) $(benches)
	@BUILD=$(build) sh tests/bench/bench.sh

# libFuzzer on every target in turn, FUZZ_SECONDS each, from the seeds of its replay; needs clang.
FUZZ_SECONDS ?= 60
fuzz_library := $(filter-out common/formats/contact_sheet.c, \
                $(wildcard common/base/*.c common/stream/*.c common/formats/*.c)) \
                $(addprefix common/model/,checkpoint_weights.c config.c parameters.c positional.c)
fuzz: $(fuzz_sources:tests/fuzz/%.c=fuzz-%)
fuzz-%: tests/fuzz/%.c $(build)/tests/fuzz/%
	@mkdir -p build/fuzz/$*.corpus
	$(build)/tests/fuzz/$* --seeds build/fuzz/$*.corpus
	clang -std=c11 -D_GNU_SOURCE -Icommon -I. -g -O1 -fsanitize=fuzzer,address,undefined \
	    -fno-sanitize-recover=all $(package_cflags) -pthread \
	    -o build/fuzz/$* $< $(fuzz_library) $(package_libs) -lm
	build/fuzz/$* -max_total_time=$(FUZZ_SECONDS) -max_len=65536 build/fuzz/$*.corpus

lint:
	mandoc -T lint -W warning $(manuals)
	cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability \
	    --suppress=invalidPointerCast --suppress=invalidFunctionArg --suppress=nullPointerRedundantCheck \
	    -D_GNU_SOURCE -Icommon -I. common kernels stages

# ---- installing ----
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
	    $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/share/clipipe/models
	install $(programs) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(manuals) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 pipelines/models/*.json $(DESTDIR)$(PREFIX)/share/clipipe/models
	install -m 644 $(library) $(DESTDIR)$(PREFIX)/lib
	$(if $(cuda_wanted),install $(build)/lib/libclipipe-cuda.so $(DESTDIR)$(PREFIX)/lib)
	for layer in base stream formats frame; do \
	    install -d $(DESTDIR)$(PREFIX)/include/clipipe/$$layer; \
	    install -m 644 common/$$layer/*.h $(DESTDIR)$(PREFIX)/include/clipipe/$$layer; \
	done
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: clipipe' \
	    'Description: stages of a CLIP training pipeline' 'Version: $(VERSION)' \
	    'Cflags: -I$${prefix}/include/clipipe' \
	    'Libs: -L$${prefix}/lib -lclipipe -fopenmp $(libs)' \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/clipipe.pc

uninstall:
	rm -f $(programs:$(bin)/%=$(DESTDIR)$(PREFIX)/bin/%) \
	    $(DESTDIR)$(PREFIX)/lib/libclipipe-cuda.so \
	    $(manuals:stages/%=$(DESTDIR)$(PREFIX)/share/man/man1/%) \
	    $(DESTDIR)$(PREFIX)/lib/libclipipe.a $(DESTDIR)$(PREFIX)/lib/pkgconfig/clipipe.pc
	rm -rf $(DESTDIR)$(PREFIX)/include/clipipe $(DESTDIR)$(PREFIX)/share/clipipe

dist:
	@mkdir -p build
	git archive --prefix=clipipe-$(VERSION)/ -o build/clipipe-$(VERSION).tar.gz HEAD

clean:
	rm -rf build

help:
	@echo 'make                 the programs, in build/bin'
	@echo 'make cuda            the CUDA backend, where nvcc is'
	@echo 'make check           all tests, under five minutes'
	@echo 'make check-long      the tests that take longer'
	@echo 'make check-emulated  the CUDA kernels on the CPU, thread by thread'
	@echo 'make check-cuda, bench-cuda  the CUDA backend on a GPU'
	@echo 'make check-graphs    whether cuDNN takes our graphs; needs no GPU'
	@echo 'make check-parity    against open_clip, which it installs below build/'
	@echo 'make bench           the throughput of every stage and kernel'
	@echo 'make fuzz            every fuzz target for FUZZ_SECONDS=60'
	@echo 'make lint            manual pages and static analysis'
	@echo 'make install         to PREFIX=/usr/local, below DESTDIR'
	@echo 'make uninstall, dist, clean'
	@echo 'VARIANT=asan or tsan or debug with any of them'

-include $(shell find $(build)/obj -name '*.d' 2>/dev/null)
