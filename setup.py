"""Packaging: the library, the folders gin/, experiments/ and tasks/ within it, and the command `stepdistill`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def packages_of(folder: str, *endings: str) -> dict[str, str]:
    """The folders below a top folder that hold such files, as packages: gin/models is stepdistill_jax.gin.models."""
    files = [path for ending in endings for path in (ROOT / folder).rglob(f"*{ending}")]
    folders = sorted({path.parent.relative_to(ROOT) for path in files})
    return {f"stepdistill_jax.{'.'.join(found.parts)}": found.as_posix() for found in folders}


GIN = packages_of("gin", ".gin")
EXPERIMENTS = packages_of("experiments", ".toml")
# Not `tasks`: a name that common is the user's own.
TASKS = {"stepdistill_jax.tasks": "tasks"}
VERSION_FILE = ROOT / "stepdistill_jax" / "base" / "version.py"
VERSION = re.search(r'__version__ = "(.+)"', VERSION_FILE.read_text())[1]

setup(
    name="stepdistill-jax",
    version=VERSION,
    description="Distilling step-by-step: small students (T5, language models) of large language models, in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["stepdistill_jax", "stepdistill_jax.*"]), *GIN, *EXPERIMENTS, *TASKS],
    package_dir={**GIN, **EXPERIMENTS, **TASKS},
    package_data={
        "stepdistill_jax.datasets.wordproblems": ["vocabulary.model"],
        "stepdistill_jax.report.style": ["templates/*"],
        "stepdistill_jax.teacher.prompting": ["prompts/*.txt"],
        **{package: ["*.gin", "*.md"] for package in GIN},
        **{package: ["*.toml", "*.csv"] for package in EXPERIMENTS},
    },
    entry_points={"console_scripts": ["stepdistill = stepdistill_jax.cli:main"]},
    install_requires=[
        "absl-py>=2.1",
        "aiohttp>=3.10",
        "clu>=0.0.12",
        "flax>=0.12",
        "gguf>=0.17",
        "gin-config>=0.5",
        "jax>=0.10",
        "jaxtyping>=0.3",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "numpy>=2.0",
        "openai>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11",
        "prometheus-client>=0.20",
        "pooch[progress]>=1.8",
        "pyarrow>=17.0",
        "rich>=13.9",
        "rouge-score>=0.1.2",
        "sacrebleu>=2.4",
        "safetensors>=0.5",
        "scipy>=1.14",
        "sentencepiece>=0.2",
        "seqio>=0.0.20",
        "tensorboard>=2.18",
        "tensorflow>=2.18",
        "tensorflow-datasets>=4.9.9",
        "tokenizers>=0.20",
        "tqdm>=4.66",
    ],
    extras_require={
        # Accelerators: JAX's own extras.
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        # Exports and their serving: 8-bit students on CPUs.
        "ctranslate2": ["ctranslate2>=4.6"],
        "dev": [
            "beartype>=0.18",
            "ctranslate2>=4.6",
            "hypothesis>=6.100",
            "import-linter>=2.1",
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
        ],
    },
)
