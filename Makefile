# Builds clipipe. `make help` lists the targets.
#
#   VARIANT=release|debug|asan|tsan   what to build; each has a directory of its own
#   PREFIX, DESTDIR                   where `make install` puts it
# The user's CFLAGS and LDFLAGS are added, never replaced.

VARIANT ?= release
PREFIX ?= /usr/local
VERSION := 0.1.0

# ---- directories: release programs are in build/bin, the other variants beside it ----
build := build$(if $(filter-out release,$(VARIANT)),/$(VARIANT))
bin := $(build)/bin

# ---- compiler ----
warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
            -Wwrite-strings -Wvla -Wundef
variant_release := -O2 -g -fno-omit-frame-pointer
variant_debug := -O0 -g3
variant_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
variant_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
variant_flags := $(variant_$(VARIANT))
ifeq ($(variant_flags),)
  $(error VARIANT=$(VARIANT) is not one of release debug asan tsan)
endif

packages := libarchive libjpeg libwebp libpng libzstd zlib jansson libpcre2-8 libutf8proc
package_cflags := $(shell pkg-config --cflags $(packages) 2>/dev/null)
package_libs := $(shell pkg-config --libs $(packages) 2>/dev/null)

ours := -std=c11 -D_GNU_SOURCE -Icommon -I. $(warnings) $(variant_flags) -pthread -fopenmp \
        -DCLIPIPE_VERSION='"$(VERSION)"' $(package_cflags)
libs := $(package_libs) -ldnnl -lm -pthread

# ---- sources ----
library_sources := $(wildcard common/*/*.c kernels/*.c kernels/*/*.c)
library_objects := $(library_sources:%.c=$(build)/obj/%.o)
library := $(build)/libclipipe.a
stages := $(patsubst stages/%.c,%,$(wildcard stages/*.c))
programs := $(stages:%=$(bin)/%)
test_sources := $(wildcard tests/unit/*.c tests/kernels/*.c)
tests := $(test_sources:%.c=$(build)/%)

.PHONY: all clean help tests
all: $(programs)

$(build)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ours) $(CFLAGS) -MMD -MP -c -o $@ $<

$(library): $(library_objects)
	@rm -f $@
	$(AR) rcs $@ $^

$(bin)/%: $(build)/obj/stages/%.o $(library)
	@mkdir -p $(@D)
	$(CC) $(variant_flags) -fopenmp $(LDFLAGS) -o $@ $^ $(libs)

tests: $(tests)
$(build)/tests/%: $(build)/obj/tests/%.o $(library)
	@mkdir -p $(@D)
	$(CC) $(variant_flags) -fopenmp $(LDFLAGS) -o $@ $^ $(libs)

clean:
	rm -rf build

.SECONDARY:
-include $(library_objects:.o=.d) $(test_sources:%.c=$(build)/obj/%.d) $(stages:%=$(build)/obj/stages/%.d)
