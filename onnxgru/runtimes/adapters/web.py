"""onnxruntime-web: onnxruntime in WebAssembly, run by Node.js."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]

SCRIPT = """
const { createRequire } = require('module'), fs = require('fs');
const readline = require('readline');
const found = createRequire(process.argv[2] + '/')('onnxruntime-web');
const kinds = { float32: Float32Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array,
  int16: Int16Array, int32: Int32Array, int64: BigInt64Array, bool: Uint8Array };
(async () => {
  found.env.wasm.numThreads = 1;
  found.env.logLevel = 'fatal';
  const session = await found.InferenceSession.create(new Uint8Array(fs.readFileSync('web.onnx')));
  console.log('READY');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const feeds = {};
    JSON.parse(line).forEach(([name, kind, shape], i) => {
      const bytes = fs.readFileSync(`in${i}.bin`);
      const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
      feeds[name] = new found.Tensor(kind, new kinds[kind](buffer), shape);
    });
    const results = await session.run(feeds);
    const told = session.outputNames.map((name, i) => {
      const tensor = results[name];
      const data = tensor.data;
      fs.writeFileSync(`out${i}.bin`, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
      return [name, tensor.type, tensor.dims];
    });
    console.log('RESULT ' + JSON.stringify(told));
  }
})().catch(error => { console.log('ERROR ' + String(error.message || error)); process.exit(1); });
"""


def version(job: Mapping[str, Any]) -> str:
    """The installed version, and that of Node.js.

    Node.js looks for the package in ``node_modules`` of the current folder and those above, and in
    what NODE_PATH names.
    """
    node = shutil.which("node")
    folder = _folder(job["where"])
    if node is None or folder is None:
        raise FileNotFoundError("needs node on the PATH, and onnxruntime-web in node_modules")
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    package = json.loads((folder / "onnxruntime-web" / "package.json").read_text("utf-8"))
    return f"{package['version']}, Node.js {told.stdout.strip().removeprefix('v')}"


def _folder(where: str) -> Path | None:
    """The ``node_modules`` that has the package."""
    here = Path(where or ".").absolute()
    named = [Path(text) for text in os.environ.get("NODE_PATH", "").split(os.pathsep) if text]
    for folder in [here, *(one / "node_modules" for one in (here, *here.parents)), *named]:
        if (folder / "onnxruntime-web" / "package.json").is_file():
            return folder
    return None


def load(model: bytes, job: Mapping[str, Any]) -> Run:
    """Start Node.js with a model."""
    import numpy as np

    folder = _folder(job["where"])
    work = Path(job["work"])
    (work / "web.onnx").write_bytes(model)
    (work / "web.cjs").write_text(SCRIPT, "utf-8")
    node = subprocess.Popen(
        ["node", "web.cjs", str(folder)],
        cwd=work,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def answer(wanted: str) -> str:
        assert node.stdout is not None
        for line in node.stdout:
            if line.startswith(wanted):
                return line[len(wanted) :].strip()
            if line.startswith("ERROR "):
                raise RuntimeError(line[6:].strip())
        raise RuntimeError(f"Node.js ended with exit code {node.wait()}")

    answer("READY")

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        assert node.stdin is not None
        told = []
        for index, name in enumerate(job["inputs"]):
            array = np.ascontiguousarray(inputs[name])
            (work / f"in{index}.bin").write_bytes(array.tobytes())
            told.append([name, array.dtype.name, list(array.shape)])
        node.stdin.write(json.dumps(told) + "\n")
        node.stdin.flush()
        found = {}
        for index, (name, kind, shape) in enumerate(json.loads(answer("RESULT "))):
            content = (work / f"out{index}.bin").read_bytes()
            found[name] = np.frombuffer(content, kind).reshape(shape)
        return found

    return run
