#!/usr/bin/env bash
# Makes one small tree into archives of every kind: `testdata/archives/make.sh [DIR]`, by default in place.
#
# The same tools make the same bytes: names sorted, owner 0, one modification time, modes set.
set -euo pipefail
out=$(cd "${1:-$(dirname "$0")}" && pwd)
export LC_ALL=C TZ=UTC
umask 022
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cd "$build"

mkdir -p tree/bin tree/empty
printf '#!/bin/sh\necho hello\n' >tree/bin/hello
chmod 755 tree/bin/hello
printf 'read only\n' >tree/read-only
chmod 444 tree/read-only
ln -s bin/hello tree/link
ln tree/bin/hello tree/zz-same
# Two pieces of data between holes.
printf 'first' | dd of=tree/sparse bs=1 seek=65536 status=none
printf 'second' | dd of=tree/sparse bs=1 seek=196608 conv=notrunc status=none
truncate -s 262144 tree/sparse
seq 2000 >tree/numbers
find tree -exec touch -h -d @1704164646 {} +

pack() { # FILE OPTION...: by GNU tar
    tar --sort=name --owner=0 --group=0 --numeric-owner -b2 -cf "$1" "${@:2}" tree
}
pack plain.tar --format=gnu
for format in v7 oldgnu gnu ustar; do
    pack "tar-$format.tar" --format="$format"
    xz -9 "tar-$format.tar"
done
pax='--format=pax --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime'
# shellcheck disable=SC2086 # these are words
pack tar-pax.tar $pax
xz -9 tar-pax.tar
pack tar-sparse-gnu.tar --format=gnu -S --hole-detection=raw
xz -9 tar-sparse-gnu.tar
for version in 0.0 0.1 1.0; do
    # shellcheck disable=SC2086
    pack "tar-sparse-$version.tar" $pax -S --hole-detection=raw --sparse-version="$version"
    xz -9 "tar-sparse-$version.tar"
done
for format in ustar pax gnutar; do
    find tree -print0 | sort -z |
        bsdtar --format="$format" --numeric-owner --uid 0 --gid 0 --null -nT - -cf "bsdtar-$format.tar"
    xz -9 "bsdtar-$format.tar"
done

# In two pieces, for formats of several members.
half=$(($(stat -c %s plain.tar) / 2))
head -c "$half" plain.tar >one
tail -c "+$((half + 1))" plain.tar >two

gzip -9n <plain.tar >gzip.tar.gz
cp plain.tar 'a name' && touch -d @1704164646 'a name' && gzip -9N 'a name' && mv 'a name.gz' gzip-name.tar.gz
{ gzip -9n <one; gzip -1n <two; head -c 1000 /dev/zero; } >gzip-members-padded.tar.gz
bzip2 -9 <plain.tar >bzip2.tar.bz2
{ bzip2 -1 <one; bzip2 -9 <two; } >bzip2-streams.tar.bz2
xz -T1 -6 <plain.tar >xz.tar.xz
xz -T2 --block-size=65536 --check=sha256 <plain.tar >xz-blocks.tar.xz
{ xz --check=crc32 <one; head -c 8 /dev/zero; xz --check=none <two; head -c 4 /dev/zero; } >xz-streams-padded.tar.xz
xz --x86 --delta=dist=4 --lzma2=preset=6 <plain.tar >xz-filters.tar.xz
xz --format=lzma <plain.tar >lzma.tar.lzma
xz --format=lzma -0 <plain.tar >lzma-small.tar.lzma
zstd -q -19 <plain.tar >zstd.tar.zst
zstd -q --no-check <plain.tar >zstd-unchecked.tar.zst
zstd -q --ultra -22 --long=27 <plain.tar >zstd-long.tar.zst
{ zstd -q <one; zstd -q <two; } >zstd-frames.tar.zst
# Each frame behind a skippable one.
pzstd -q -p 2 <plain.tar >zstd-skippable.tar.zst

rm -f "$out"/*.tar.*
cp -- *.tar.* "$out"
