"""Learned solvers: (levels, parameters) -> Tableau, differentiable. A new family is one module and one line here."""

from s4s.families.lms import LMS

FAMILIES = {"lms": LMS}
