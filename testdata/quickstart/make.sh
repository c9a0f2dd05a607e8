#!/usr/bin/env bash
# Makes the quickstart's files and fetch kind, and a store and a list with the same: `testdata/quickstart/make.sh [DIR]`, by
# default in place.
#
# The same tools make the same bytes: names sorted, owner 0, one modification time, modes set, no time zone.
set -euo pipefail
out=$(cd "${1:-$(dirname "$0")}" && pwd)
export LC_ALL=C TZ=UTC
umask 022
when=1704164646 # 2024-01-02 03:04:06 UTC; even, as zip counts in steps of two seconds
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cd "$build"

# Slugids (version 4 UUIDs in base64url), as the platform gives them to tasks.
toolchain=M-LMJ6eeS-ms23bBxYBzhA
headers=EpjRSIefRtePGGfmPmxzDg
samples=cJGC0aTVQM-9QQQOtxOc7g
scripts=KAmFDW1OTv6UfKfJHOCBMg

# A sysroot in small: links between directories and files, a hard link, an empty directory, programs.
mkdir -p sysroot/usr/{bin,include/bits,lib/pkgconfig,share/doc/greet,share/empty}
ln -s usr/lib sysroot/lib
ln -s usr/lib sysroot/lib64
cat >sysroot/usr/include/greet.h <<'END'
/* SPDX-License-Identifier: MPL-2.0 */
#ifndef GREET_H
#define GREET_H

#include <bits/greet-version.h>

/* Returns a greeting in the given language (ISO 639-1), or NULL if nobody has taught it to us. */
const char *greet(const char *language);

#endif
END
cat >sysroot/usr/include/bits/greet-version.h <<'END'
/* SPDX-License-Identifier: MPL-2.0 */
#define GREET_VERSION "1.0.0"
END
cat >sysroot/usr/lib/libgreet.so.1.0.0 <<'END'
/* GNU ld script: a library that takes everything from elsewhere. */
OUTPUT_FORMAT(elf64-x86-64)
GROUP ( AS_NEEDED ( libc.so.6 ) )
END
ln -s libgreet.so.1 sysroot/usr/lib/libgreet.so
ln -s libgreet.so.1.0.0 sysroot/usr/lib/libgreet.so.1
cat >sysroot/usr/lib/pkgconfig/greet.pc <<'END'
prefix=/usr
Name: greet
Description: Greetings in several languages
Version: 1.0.0
Libs: -L${prefix}/lib -lgreet
Cflags: -I${prefix}/include
END
cat >sysroot/usr/bin/sysroot-cc <<'END'
#!/bin/sh
# Runs the compiler of the same name against this sysroot.
here=$(dirname "$(readlink -f "$0")")
name=$(basename "$0")
exec "${name#sysroot-}" --sysroot="${here%/usr/bin}" "$@"
END
chmod 755 sysroot/usr/bin/sysroot-cc
ln sysroot/usr/bin/sysroot-cc sysroot/usr/bin/sysroot-c++
echo 'Everyone may use this under the terms of the MPL-2.0.' >sysroot/usr/share/doc/greet/copyright

# A header-only library as upstreams release it: one top directory that is to be stripped.
mkdir -p crc-1.2/{include/crc,tests}
{
    cat <<'END'
/* SPDX-License-Identifier: MPL-2.0
 * CRC-32 as in gzip and zip: polynomial 0xEDB88320, reflected, inverted at both ends. */
#ifndef CRC_CRC32_H
#define CRC_CRC32_H

#include <stddef.h>
#include <stdint.h>

static const uint32_t crc32_table[256] = {
END
    for ((byte = 0; byte < 256; byte++)); do
        sum=$byte
        for ((bit = 0; bit < 8; bit++)); do
            ((sum = sum & 1 ? sum >> 1 ^ 0xEDB88320 : sum >> 1)) || true
        done
        printf '%s0x%08Xu,%s' "$([ $((byte % 6)) = 0 ] && echo '    ')" "$sum" \
            "$([ $((byte % 6)) = 5 ] && echo _ || echo ' ')"
    done | tr '_' '\n' | sed 's/ $//'
    cat <<'END'

};

/* Returns the sum of what `sum` stands for (0: nothing) followed by `length` bytes. */
static inline uint32_t crc32_update(uint32_t sum, const void *data, size_t length)
{
    const unsigned char *byte = data;
    sum = ~sum;
    while (length--)
        sum = sum >> 8 ^ crc32_table[(sum ^ *byte++) & 0xff];
    return ~sum;
}

#endif
END
} >crc-1.2/include/crc/crc32.h
cat >crc-1.2/tests/check.c <<'END'
/* SPDX-License-Identifier: MPL-2.0 */
#include <crc/crc32.h>

int main(void)
{
    return crc32_update(0, "123456789", 9) != 0xCBF43926u;
}
END
cat >crc-1.2/README.md <<'END'
# crc

CRC-32 in one header. `cc -I include tests/check.c && ./a.out` checks it.
END
echo 'Mozilla Public License 2.0, see https://mozilla.org/MPL/2.0/' >crc-1.2/LICENSE

# Test data: modes, an empty file and directory, a name that is not ASCII.
mkdir -p samples/{numbers,text,none-yet}
awk 'BEGIN { for (n = 2; found < 4000; n++) { for (d = 2; d * d <= n && n % d; d++); if (d * d > n) { print n; found++ } } }' \
    >samples/numbers/primes.txt
awk 'BEGIN { a = 0; b = 1; for (n = 0; n < 70; n++) { printf "%d\t%d\n", n, a; c = a + b; a = b; b = c } }' \
    >samples/numbers/fibonacci.tsv
printf '%s\n' 'de	Grüß Gott' 'el	Γειά σου' 'en	Hello' 'fr	Bonjour' 'hi	नमस्ते' 'ja	こんにちは' 'ru	Привет' \
    >'samples/text/grüße.tsv'
: >samples/text/empty.txt
chmod 444 samples/numbers/*
chmod 600 samples/text/empty.txt

# Programs and a link to one of them.
mkdir -p tools/bin
cat >tools/bin/greet <<'END'
#!/bin/sh
# Says hello in the language given, from the table given: `greet TABLE LANGUAGE`.
while IFS='	' read -r language greeting; do
    [ "$language" = "$2" ] && echo "$greeting" && exit
done <"$1"
echo "greet: no greeting for '$2'" >&2
exit 1
END
chmod 755 tools/bin/greet
ln -s greet tools/bin/hello
echo 'greet: prints a greeting. hello: the same.' >tools/README.txt

# A plain file, which uses all the others.
cat >check-inputs.sh <<'END'
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
END

artifact() { # TASK NAME: prints the path of an artifact, whose directory is made
    mkdir -p "$out/store/task/$1/artifacts/public/build"
    echo "$out/store/task/$1/artifacts/public/build/$2"
}
pack() { # NAME
    tar --create --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$when" "$1"
}
digest() { # FILE
    sha256sum "$1" | cut -c 1-64
}

rm -rf "$out/store"
find . -exec touch --no-dereference --date="@$when" {} +
sysroot=$(artifact $toolchain sysroot.tar.zst)
crc=$(artifact $headers crc-1.2.tar.xz)
data=$(artifact $samples samples.tar.bz2)
tools=$(artifact $toolchain tools.zip)
check=$(artifact $scripts check-inputs.sh)
pack sysroot | zstd -q -19 --no-progress -o "$sysroot"
pack crc-1.2 | xz -9 >"$crc"
pack samples | bzip2 -9 >"$data"
find tools | sort | zip -q -X -9 --symlinks "$tools" -@
cp check-inputs.sh "$check"
touch --date="@$when" "$sysroot" "$crc" "$data" "$tools" "$check"

# What workers say about the artifacts of their tasks.
vouch() { # TASK NAME=FILE...
    local task=$1 comma='' pair
    shift
    printf '{\n  "chainOfTrustVersion": 1,\n  "taskId": "%s",\n  "runId": 0,\n  "artifacts": {' "$task"
    for pair; do
        printf '%s\n    "public/build/%s": {"sha256": "%s"}' "$comma" "${pair%%=*}" "$(digest "${pair#*=}")"
        comma=,
    done
    printf '\n  }\n}\n'
}
vouch $toolchain "sysroot.tar.zst=$sysroot" "tools.zip=$tools" \
    >"$out/store/task/$toolchain/artifacts/public/chain-of-trust.json"
vouch $headers "crc-1.2.tar.xz=$crc" >"$out/store/task/$headers/artifacts/public/chain-of-trust.json"

cat >"$out/fetches.json" <<END
[
  {"task": "$toolchain", "artifact": "public/build/sysroot.tar.zst", "extract": true, "verify-hash": true},
  {"task": "$headers", "artifact": "public/build/crc-1.2.tar.xz", "extract": true, "dest": "third_party", "verify-hash": true},
  {"task": "$samples", "artifact": "public/build/samples.tar.bz2", "extract": true, "dest": "testing",
   "sha256": "$(digest "$data")", "size": $(stat -c %s "$data")},
  {"task": "$toolchain", "artifact": "public/build/tools.zip", "extract": true, "verify-hash": true},
  {"task": "$scripts", "artifact": "public/build/check-inputs.sh", "extract": false,
   "sha256": "$(digest "$check")"}
]
END

# The same as upstreams' releases, and the tasks that fetch them.
rm -rf "$out/distfiles"
mkdir -p "$out/distfiles" "$out/taskcluster/kinds/fetch"
cp --preserve=timestamps "$sysroot" "$crc" "$data" "$tools" "$check" "$out/distfiles"
release() { # FILE: prints how it is fetched
    printf '        fetch:\n            type: static-url\n            url: https://downloads.example.org/%s\n' "${1##*/}"
    printf '            sha256: %s\n            size: %s\n' "$(digest "$1")" "$(stat -c %s "$1")"
}
cat >"$out/taskcluster/kinds/fetch/kind.yml" <<END
---
# What toolchains are built from. The files are in distfiles/, since nobody serves them.
loader: taskgraph.loader.transform:loader
transforms:
    - taskgraph.transforms.fetch
    - taskgraph.transforms.run
    - taskgraph.transforms.task
tasks:
    crc-1.2:
        description: Checksums in C
        fetch-alias: crc
$(release "$crc")
            artifact-name: crc.tar.zst
    host-tools:
        description: Programs for the machine that builds
$(release "$tools")
    sysroot:
        description: Headers and libraries of the machine that is built for
$(release "$sysroot")
    samples:
        description: Test data
$(release "$data")
    check-inputs:
        description: Says whether the others are there
$(release "$check")
END
