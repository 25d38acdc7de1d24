# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by quickstart and test: installs missing packages, configures a preset, builds it. Works from any directory; leaves the
# working directory at the repository's root.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1

bold='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' plain=$'\e[0m'
fi

say() { printf '%s%s%s\n' "$bold" "$*" "$plain"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The packages of the given groups in packages.txt, one per line.
packages_of() {
  local group package _
  while read -r group package _; do
    [[ " $* " == *" $group "* ]] && printf '%s\n' "$package"
  done < <(grep -v '^#' scripts/packages.txt)
  return 0
}

# Installs what is missing of the given groups; touches nothing, not even the package lists, when all is there.
install_packages() {
  local wanted missing=() package as_root=()
  mapfile -t wanted < <(packages_of "$@")
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "This system has no apt: install what scripts/packages.txt lists under its own names there."
    return 0
  fi
  local installed
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null) || true
  for package in "${wanted[@]}"; do
    grep -qx "installed $package" <<<"$installed" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "these packages are missing, and there is neither root nor sudo to install them. As root:
  apt-get install ${missing[*]}"
    as_root=(sudo)
    [[ -t 0 ]] || sudo -n true 2>/dev/null || die "these packages are missing, and sudo wants a password. Run first:
  sudo apt-get install ${missing[*]}"
  fi
  say "Installing ${missing[*]}"
  # Lists that cannot be refreshed may still serve: the installation says what it does not find.
  "${as_root[@]}" apt-get update -qq || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null || die "apt-get could not install: ${missing[*]}"
}

# What the folders with a package-lock.json need, from npm; nothing where it is there already. Without npm they are left out: the
# page says so in its place, and the tests that need them are skipped.
fetch_node_packages() {
  local folder
  command -v npm >/dev/null || install_packages node
  for folder in "$@"; do
    [[ $folder/node_modules/.package-lock.json -nt $folder/package-lock.json ]] && continue
    say "Fetching what $folder is built with"
    (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json) ||
      say "npm could not fetch the packages of $folder: it is left out"
  done
}

# Configures build/PRESET and builds it with every processor: build PRESET [targets]
build() {
  local preset=$1 log
  shift
  say "Building (preset $preset, build/$preset)"
  log=$(cmake --preset "$preset" 2>&1) || die "cmake --preset $preset failed:
$log"
  cmake --build --preset "$preset" --parallel "$(nproc)" ${@+--target "$@"}
}
