"""AdsorbML from data to success rates with ASE's EMT in the place of DFT; see adsorbml_emt.py."""
