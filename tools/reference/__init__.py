"""Writes the generated parts of docs/reference from the code: settings, commands, calls, metrics.

A page is written by hand but for what stands between two comments, `<!-- generated: NAME -->` and `<!-- end -->`: that
is made by the function of this name in `blocks.py`. `make docs` writes it anew; `tests/test_docs.py` fails where what
stands there is not what the code says.
"""
