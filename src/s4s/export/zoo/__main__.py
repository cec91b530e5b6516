"""Prints docs/zoo.md, made from resources/zoo:  python -m s4s.export.zoo > docs/zoo.md"""

from s4s.export.zoo.page import page

if __name__ == "__main__":
    print(page(), end="")
