#!/bin/sh
# Packs headwater-loader for AWS Lambda: tests/lambda.sh arm64|x86-64 [loader.toml]. The zip holds `bootstrap`
# and, where one is given, the configuration. What was packed is unpacked and run as a function against the
# harness's runtime API (arm64 under qemu-user on another machine). Fails where it would not start on
# provided.al2023, or is larger than Lambda takes.
set -eu
arch=$1
config=${2:-}
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# Of Amazon Linux 2023.
glibc_max=2.34
# Lambda's, for a zip that is uploaded directly, and for what it unpacks to.
zip_max=52428800
unpacked_max=262144000
case "$arch" in
    arm64)
        target=aarch64-unknown-linux-gnu
        tests/tools.sh aarch64-linux-gnu-gcc qemu-aarch64 objdump
        ;;
    x86-64)
        target=x86_64-unknown-linux-gnu
        tests/tools.sh objdump
        ;;
    *)
        echo "$arch is no architecture of Lambda's: arm64 or x86-64" >&2
        exit 2
        ;;
esac
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
# The loader's release build, without what only debuggers read.
CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols \
    cargo build --locked -p headwater-loader --profile release --target "$target"
binary=$target_dir/$target/release/headwater-loader

needs() { objdump -p "$binary" | awk "\$1 == \"NEEDED\" {print \$2}"; }
echo "it is linked with: $(needs | tr '\n' ' ')"
if needs | grep -vE '^(libc|libm|libgcc_s|libdl|libpthread|librt)\.so\.[0-9]+$|^ld-linux'; then
    echo "provided.al2023 has no such library" >&2
    exit 1
fi
glibc=$(objdump -p "$binary" | grep -oE 'GLIBC_[0-9.]+' | sed s/GLIBC_// | sort -uV | tail -n 1)
echo "it needs glibc $glibc of $glibc_max"
if [ "$(printf '%s\n' "$glibc" "$glibc_max" | sort -V | tail -n 1)" != "$glibc_max" ]; then
    echo "provided.al2023 has glibc $glibc_max: build on a system with that one, or an older one" >&2
    exit 1
fi

package=$target_dir/lambda/headwater-loader-$arch.zip
mkdir -p "$target_dir/lambda"
python3 tests/lambda-package.py pack "$package" "$binary" "$config"
size=$(stat -c %s "$package")
unpacked=$(stat -c %s "$binary")
echo "$package: $size bytes, unpacked $unpacked"
if [ "$size" -gt "$zip_max" ] || [ "$unpacked" -gt "$unpacked_max" ]; then
    echo "larger than Lambda takes: $zip_max bytes, unpacked $unpacked_max" >&2
    exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 tests/lambda-package.py unpack "$package" "$folder/packed"
# The harness starts "headwater-loader" from a folder, by whichever name.
if [ "$target" = "$(rustc -vV | sed -n 's/^host: //p')" ]; then
    ln -s packed/bootstrap "$folder/headwater-loader"
else
    printf '#!/bin/sh\nexec qemu-aarch64 -0 "$0" -L /usr/aarch64-linux-gnu "%s" "$@"\n' \
        "$folder/packed/bootstrap" >"$folder/headwater-loader"
    chmod +x "$folder/headwater-loader"
fi
# With the features of all other tests, so that nothing is built twice.
HEADWATER_BIN_DIR="$folder" cargo test --locked --workspace \
    --features headwater-agent/crash-points,headwater-loader/crash-points \
    --test lambda_stores_each_record_once -- as_bootstrap_ what_is_no_event_
