"""Learned pruning masks: static model pruning (SMP), movement, soft movement and magnitude pruning."""
