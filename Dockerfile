# The tested versions of constraints.txt, for a CPU:
#   docker build -t cace-pyg .
#   docker run --rm --shm-size 1g -v "$PWD":/work cace-pyg data synthetic data/synthetic
#   docker run --rm --shm-size 1g -v "$PWD":/work cace-pyg train --config synthetic
# For an NVIDIA GPU, with the CUDA build that PyPI has:
#   docker build -t cace-pyg:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --rm --shm-size 1g --gpus all -v "$PWD":/work cace-pyg:cuda train --config synthetic
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=gallery,onnx,parquet,timm,hub

WORKDIR /opt/cace_pyg
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt setuptools wheel \
 && pip install --no-cache-dir -c constraints.txt --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple \
    torch torchvision
COPY pyproject.toml setup.py README.md LICENSE ./
COPY configs configs
COPY cace_pyg cace_pyg
RUN pip install --no-cache-dir -c constraints.txt --no-build-isolation ".[$EXTRAS]"

RUN useradd --create-home cace
USER cace
WORKDIR /work
ENTRYPOINT ["cace-pyg"]
