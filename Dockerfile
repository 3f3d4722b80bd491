# The gateway as an image: docker build --tag suffice-gateway .
# How it is run: docs/deploy.md. What is done here is tried without Docker by
# scripts/check_dockerfile.py.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY src ./src
RUN python -m pip wheel --quiet --disable-pip-version-check --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12-slim
COPY --from=build /dist /dist
COPY constraints.txt /dist/constraints.txt
RUN python -m venv /opt/suffice && \
    /opt/suffice/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir \
    --constraint /dist/constraints.txt "$(echo /dist/suffice-*.whl)[serve,postgres,otel,math]" && \
    rm -r /dist
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/suffice suffice && \
    chmod 700 /var/lib/suffice
ENV PATH=/opt/suffice/bin:$PATH \
    HOME=/var/lib/suffice \
    SUFFICE_LEDGER=/var/lib/suffice/ledger.db \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/suffice
VOLUME /var/lib/suffice
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/live', timeout=2)"]
ENTRYPOINT ["suffice"]
CMD ["serve", "--config", "/etc/suffice/suffice.toml"]
