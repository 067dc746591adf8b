# The example backend in FastAPI, for the compose files. Build it from the root of the repository.

FROM python:3.13-slim-trixie

ENV PATH=/opt/backend/bin:$PATH
RUN python -m venv /opt/backend

WORKDIR /app
COPY LICENSE README.md hatch_build.py pyproject.toml ./package/
COPY deploy/man ./package/deploy/man
COPY wsaas ./package/wsaas
# The cache is mounted, so it is not in the image.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    PIP_CACHE_DIR=/var/cache/pip pip install './package[backend]' 'fastapi>=0.115,<1' 'uvicorn>=0.34,<1'
COPY examples/fastapi/app.py ./

USER 10001:10001
EXPOSE 8000
# Connections are kept for longer than the gateway keeps them: docs/backend.md.
CMD ["uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000", "--timeout-keep-alive", "80"]
