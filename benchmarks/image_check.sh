#!/bin/bash
# make image-check: builds the CPU image, and uses it as a user does: doctor, the demo as another user with a volume,
# a training that is stopped by each signal and resumed. Where no Docker engine runs it sets one up from Debian's
# packages (needs root), and where no registry is reached it makes a base from debootstrap and this machine's Python
# 3.12; where neither can be had it skips, and says why. FOLDER (10 GB) is kept: delete it afterwards.
#
#     bash benchmarks/image_check.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:?the folder to work in}")
mkdir -p "$folder"
log=$folder/log.txt
: > "$log"

skip() { echo "skipped: $1"; exit 0; }
fail() { echo "FAILED: $1 (see $log)" >&2; exit 1; }
report() { printf '%-58s %s\n' "$1" "$2" | tee -a "$log"; }
timed() { local began=$SECONDS name=$1; shift; "$@" >> "$log" 2>&1 || fail "$name"; report "$name" "$((SECONDS - began)) s"; }

fetch_engine() {
    [ "$(id -u)" = 0 ] || skip "no Docker engine runs here, and only root can start one"
    command -v docker > /dev/null || skip "there is no docker command"
    (mkdir -p "$folder/packages" && cd "$folder/packages" && apt-get update && apt-get download docker.io containerd runc tini \
        iptables libip4tc2 libip6tc2 libxtables12 libnftnl11 libnfnetlink0 libnetfilter-conntrack3 debootstrap) \
        >> "$log" 2>&1 || skip "Debian's packages of an engine cannot be had here"
    for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder/engine"; done
}

start_engine() {
    export PATH=$folder/engine/usr/sbin:$folder/engine/usr/bin:$PATH DOCKER_HOST=unix://$folder/docker.sock
    export LD_LIBRARY_PATH=$folder/engine/usr/lib/x86_64-linux-gnu
    dockerd --data-root "$folder/docker" --exec-root "$folder/exec" --pidfile "$folder/docker.pid" --host "$DOCKER_HOST" \
        --iptables=false --ip-masq=false --bridge=none --storage-driver overlay2 >> "$folder/engine.log" 2>&1 &
    engine=$!
    trap 'kill $engine; wait $engine || true' EXIT
    for _ in $(seq 30); do docker info > /dev/null 2>&1 && break; sleep 1; done
    docker info >> "$log" 2>&1 || skip "an engine does not start here: $(tail -1 "$folder/engine.log")"
    unset LD_LIBRARY_PATH
}

make_base() {
    local python root=$folder/base
    python=$(python3.12 -c 'import sys; print(sys.base_prefix)' 2> /dev/null) || skip "no registry is reached, and there is no python3.12"
    if ! [ -e "$root/etc/os-release" ]; then
        DEBOOTSTRAP_DIR=$folder/engine/usr/share/debootstrap debootstrap --variant=minbase --include=ca-certificates,netbase,tzdata,libssl3,libffi8,libbz2-1.0,liblzma5,libsqlite3-0,libreadline8,zlib1g,libncursesw6,libuuid1,libexpat1 bookworm "$root" >> "$log" 2>&1 \
            || skip "no registry is reached, and debootstrap fails"
    fi
    mkdir -p "$root/usr/local/lib" "$root/usr/local/bin"
    cp -a "$python"/lib/libpython3.12.so* "$root/usr/local/lib/" 2> /dev/null || true
    tar -C "$python/lib" --exclude=site-packages --exclude=test --exclude='config-*' --exclude=__pycache__ -c python3.12 | tar -C "$root/usr/local/lib" -x
    cp "$python/bin/python3.12" "$root/usr/local/bin/"
    ln -sf python3.12 "$root/usr/local/bin/python3"; ln -sf python3.12 "$root/usr/local/bin/python"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    chroot "$root" sh -c 'ldconfig && python3.12 -m ensurepip && ln -sf pip3 /usr/local/bin/pip' >> "$log" 2>&1
    tar -C "$root" -c . | docker import --change 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_INDEX_URL=${PIP_INDEX_URL:-$(pip config get global.index-url 2> /dev/null || echo https://pypi.org/simple)}" \
        - python:3.12-slim >> "$log"
}

in_image() { docker run --rm --network none --volume "$folder/data:/data" --user 4321:4321 tfsono "$@"; }

# Starts the training, sends the signal after a step, and prints: exit status, seconds to the end, step of the state.
stopped_by() {
    local signal=$1 name=stop_$1 began
    docker rm --force "$name" > /dev/null 2>&1 || true
    docker run --detach --name "$name" --network none --volume "$folder/data:/data" --user 4321:4321 tfsono "${train[@]}" > /dev/null
    for _ in $(seq 300); do
        docker logs "$name" 2>&1 | grep -q "traced in" && break
        [ "$(docker inspect --format "{{.State.Running}}" "$name")" = true ] || break
        sleep 1
    done
    sleep 5
    began=$SECONDS
    if [ "$signal" = stop ]; then docker stop --time 60 "$name" > /dev/null; else docker kill --signal "$signal" "$name" > /dev/null; fi
    status=$(docker wait "$name")
    docker logs "$name" >> "$log" 2>&1
    saved=$(docker logs "$name" 2>&1 | sed -n 's|^step \([0-9]*\)/.*saved$|\1|p')
    [ "$saved" ] || fail "$signal: no step was saved"
    report "$signal: status, seconds to the end, saved at step" "$status, $((SECONDS - began)) s, $saved"
    docker rm "$name" > /dev/null
}

export DOCKER_BUILDKIT=0
docker info > /dev/null 2>&1 || { fetch_engine; start_engine; }
docker image inspect python:3.12-slim > /dev/null 2>&1 || docker pull python:3.12-slim >> "$log" 2>&1 || make_base
timed "build of the CPU image" docker build --network host --tag tfsono --build-arg EXTRA= --build-arg "REVISION=$(git rev-parse HEAD)" .
report "size of the image" "$(docker image inspect --format '{{.Size}}' tfsono | awk '{printf "%.2f GB", $1 / 1e9}')"
rm -rf "$folder/data" && mkdir -p "$folder/data" && chown 4321:4321 "$folder/data"
timed "doctor" docker run --rm --network none tfsono tfsono doctor
if docker run --rm --network none tfsono tfsono doctor --expect gpu >> "$log" 2>&1; then fail "doctor --expect gpu passes in the CPU image"; fi
report "doctor --expect gpu in the CPU image" "status 1"
timed "tfsono demo hip as user 4321, with a volume" in_image tfsono demo hip --out demo
[ -z "$(find "$folder/data" ! -user 4321)" ] || fail "files of the volume belong to others"
train=(tfsono train hip --data demo/hip.h5 --run_dir runs/stopped --preset quick --iterations 600 --record_every 200)
rm -rf "$folder/data/runs/stopped"
before=0
for signal in stop TERM USR1; do
    stopped_by "$signal"
    [ "$status" = "$([ $signal = stop ] && echo 130 || echo 143)" ] || fail "$signal: exit status $status"
    [ "$saved" -gt "$before" ] || fail "$signal: no step was gained"
    [ "$before" = 0 ] || grep -q "resumes at step $before of 600" "$log" || fail "$signal: the training did not resume at step $before"
    before=$saved
done
echo "passed"
