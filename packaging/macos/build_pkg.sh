#!/bin/sh
# Builds the macOS installer out of the .tar.gz: build_pkg.sh ARCHIVE DIRECTORY. It needs macOS's pkgbuild and productbuild.
# Out of or-router-macos-arm64-1.2.3.tar.gz comes or-router-macos-arm64-1.2.3.pkg.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
archive=$1
out=$2
name=$(basename "$archive" .tar.gz)
version=${name##*-}
case $name in
  *-arm64-*) architecture=arm64 ;;
  *-x86_64-*) architecture=x86_64 ;;
  *) echo "$0: $name names no architecture" >&2 && exit 1 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is installed: the program where it can be replaced as a whole, and the command on everybody's PATH.
root=$work/root
mkdir -p "$root/usr/local/lib" "$root/usr/local/bin"
tar -xzf "$archive" -C "$work"
mv "$work/$name" "$root/usr/local/lib/llm-router"
cp "$here/uninstall.sh" "$root/usr/local/lib/llm-router/"
ln -s ../lib/llm-router/llm-router "$root/usr/local/bin/llm-router"

pkgbuild --root "$root" --scripts "$here/scripts" --identifier system.llm-router.program --version "$version" \
  --install-location / --ownership recommended "$work/program.pkg"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" "$here/distribution.xml" >"$work/distribution.xml"
productbuild --distribution "$work/distribution.xml" --package-path "$work" "$out/$name.pkg"
