#!/bin/sh
# May this tag be released? gate.sh TAG [MAIN]; run in the repository, with its history. It ends with an error unless
#   - the commit that TAG names is on MAIN (origin/main where none is given), and
#   - TAG is the version there with a v before it.
set -eu

tag=$1
main=${2:-origin/main}

refuse() {
  echo "not released: $1" >&2
  exit 1
}

commit=$(git rev-parse --quiet --verify "refs/tags/$tag^{commit}") || refuse "there is no tag $tag"
git rev-parse --quiet --verify "$main^{commit}" >/dev/null || refuse "there is no $main to compare with"
git merge-base --is-ancestor "$commit" "$main" || refuse "$tag names $commit, which is not on $main"

version=$(git show "$commit:src/llm_router/__init__.py" | sed -n 's/^__version__ = "\(.*\)"$/\1/p')
[ "$tag" = "v$version" ] || refuse "$tag is not v$version, the version of $commit"
echo "$tag may be released: $commit is on $main"
