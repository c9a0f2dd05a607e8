#!/bin/sh
# Checks the directory it is in: are the inputs of the quickstart there, and of use?
set -eu
cd "$(dirname "$0")"
grep -q elf64 sysroot/lib64/libgreet.so
test -x sysroot/usr/bin/sysroot-c++
test -d sysroot/usr/share/empty
test "$(grep -c . third_party/crc-1.2/include/crc/crc32.h)" -gt 50
test "$(tail -n 1 testing/samples/numbers/primes.txt)" = 37813
hello=$(tools/bin/hello testing/samples/text/gr*e.tsv fr)
test "$hello" = Bonjour
echo "$hello: all inputs are there"
