class Variant: pass
STANDARD = Variant()
