# docker build --tag tfsono .                        with CUDA and cuDNN, about 7 GB
# docker build --tag tfsono --build-arg EXTRA= .     for a machine without an NVIDIA GPU, about 3 GB
# docker build --tag tfsono --build-arg BASE=tensorflow/tensorflow:2.21.0-gpu .     on TensorFlow's own image
#
# docker run --rm --gpus all tfsono tfsono doctor --expect gpu
# docker run --rm --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/data" tfsono \
#     tfsono train hip --data hip.h5 --run_dir runs/hip
#
# `docker stop` saves a training at its step, and the same command resumes it. compose.yaml has services.
#
# Not based on TensorFlow's own GPU image: since 2.18 it comes without cuDNN 9 and then silently ignores the GPU.
# The wheels of tensorflow[and-cuda] bring CUDA and cuDNN, also on top of it; the host gives only the driver.
ARG BASE=python:3.12-slim
FROM ${BASE}

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
COPY setup.py setup.cfg constraints.txt README.md LICENSE ./
COPY tfsono/__init__.py tfsono/
COPY train/__init__.py train/
COPY evaluate/__init__.py evaluate/
RUN pip install --constraint constraints.txt --editable ".${EXTRA:+[$EXTRA]}"

COPY tfsono tfsono
COPY train train
COPY evaluate evaluate
COPY pretrained pretrained

# Stops the build where TensorFlow does not load, or could not use a GPU: without a driver it opens CUDA and cuDNN.
RUN tfsono doctor --expect "${EXTRA:-cpu}" && install --directory --mode 1777 /data && rm -rf /tmp/*

# A number, for Kubernetes' runAsNonRoot. Any other --user works too: no file of the image needs to be written.
USER 1000:1000
WORKDIR /data
STOPSIGNAL SIGINT

# Last, as a change of it would build again all that follows.
ARG REVISION=unknown
LABEL org.opencontainers.image.title=tfsono \
      org.opencontainers.image.description="Five published systems for fetal ultrasound and hip MR, for research" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.revision=${REVISION}

CMD ["tfsono", "--help"]
