"""Forms made from JSON Schemas: schema → form model → HTML, and the posted form back to JSON with errors at fields."""

from agentnexus.web.forms.build import build_form
from agentnexus.web.forms.check import check
from agentnexus.web.forms.model import Field, Form, Kind, Option
from agentnexus.web.forms.parse import FormData, Parsed, Upload, parse_form

__all__ = ["Field", "Form", "FormData", "Kind", "Option", "Parsed", "Upload", "build_form", "check", "parse_form"]
