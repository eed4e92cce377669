# Terrace as a container. Needs at least:
#   -e TERRACE_L2__URL=redis://redis:6379 -e TERRACE_LISTEN__PASSWORD=…
# The admin port (metrics, health) is open to the container's network: do not publish it further.
# Without a password only loopback clients are served (protected mode).

FROM python:3.13-slim AS build
# The compiler stays in this stage; without the compiled core the image is not built.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
ENV TERRACE_CORE=c
WORKDIR /src
COPY pyproject.toml MANIFEST.in README.md LICENSE ./
COPY proxy ./proxy
COPY tiers ./tiers
RUN python -m venv /opt/terrace && /opt/terrace/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --no-create-home --uid 7379 terrace
COPY --from=build /opt/terrace /opt/terrace
COPY conf/terrace.toml /etc/terrace/terrace.toml
ENV PATH=/opt/terrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TERRACE_LISTEN__HOST=0.0.0.0 \
    TERRACE_ADMIN__HOST=0.0.0.0
USER terrace
EXPOSE 7379 7380
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('TERRACE_ADMIN__PORT', '7380')}/healthz\", timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["terrace"]
CMD ["serve", "--config", "/etc/terrace/terrace.toml"]
