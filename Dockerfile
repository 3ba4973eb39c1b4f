# docker build --tag tfsono .                        with CUDA and cuDNN, about 7 GB
# docker build --tag tfsono --build-arg EXTRA= .     for a machine without an NVIDIA GPU, about 3 GB
#
# docker run --rm --gpus all tfsono tfsono doctor
# docker run --rm --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/data" tfsono \
#     tfsono train hip --data /data/hip.h5 --run_dir /data/runs/hip
#
# Not based on TensorFlow's own GPU image: since 2.18 it comes without cuDNN 9 and then silently ignores the GPU.
# The wheels of tensorflow[and-cuda] bring CUDA and cuDNN; the host gives only the driver.
FROM python:3.12-slim

ARG EXTRA=gpu

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    KERAS_HOME=/tmp/keras \
    MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /opt/tfsono

# Dependencies (gigabytes) are a layer of their own, which a change of the code does not rebuild.
COPY setup.py setup.cfg README.md LICENSE ./
COPY tfsono/__init__.py tfsono/
COPY train/__init__.py train/
COPY evaluate/__init__.py evaluate/
RUN pip install --editable ".${EXTRA:+[$EXTRA]}"

COPY tfsono tfsono
COPY train train
COPY evaluate evaluate
COPY pretrained pretrained

# Any other --user works too: no file of the image needs to be written.
RUN useradd --create-home --uid 1000 tfsono
USER tfsono

CMD ["tfsono", "--help"]
