#!/bin/sh
# Would build the library from what is in MOZ_FETCHES_DIR.
set -e
test -d "$MOZ_FETCHES_DIR/third_party/crc"
