"""Triton's configurations as tritonclient's own protobuf reads them: `FILE...`, one line of JSON per file."""

import json
import sys
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

for file in sys.argv[1:]:
    config = text_format.Parse(Path(file).read_text(encoding="utf-8"), ModelConfig())
    print(json.dumps(json_format.MessageToDict(config, preserving_proto_field_name=True)))
