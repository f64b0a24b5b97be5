"""The collector of hardware passports: `p2vctl machine collect`, and a program of its own.

It runs on the physical machine, which has no p2vd and perhaps an old Python. setup.py joins these modules
into one text, `/usr/share/p2vd/p2vd-collect`, so they keep to the standard library and to the grammar
of Python 3.6, and import nothing but each other and what setup.py joins with them. Tests hold that.
"""
