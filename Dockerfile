# The Runtime installs packages.txt and requirements.txt by itself.
FROM astrocrpublic.azurecr.io/runtime:3.3-8
