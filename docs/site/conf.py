"""Sphinx's settings. Nothing is fetched: no fonts, no CDN; the site works from a folder."""

import importlib.metadata

project = "deploybench"
release = importlib.metadata.version("deploybench")
extensions = ["myst_parser"]
exclude_patterns = ["tutorial.ipynb"]
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
html_theme = "furo"
html_title = "deploybench"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
suppress_warnings = ["myst.header"]  # a page of results may begin at any level
smartquotes = False  # --flag is no dash
nitpicky = True
highlight_language = "text"  # a block without a language is output
