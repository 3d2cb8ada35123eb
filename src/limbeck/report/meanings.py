"""What each metric means, in a sentence for the reader of a report; the definitions are in docs/metrics.md."""

from __future__ import annotations

from limbeck.report.statistics import base_name

MEANINGS = {
    "fid": "how far the features of the images, as a whole, lie from those of real ones; depends on the features",
    "kid": "the same question as FID's, by another distance that few images do not bias; may come out below 0",
    "is": "how sure a classifier is of each image, and how varied its answers are; never looks at a real image",
    "rfid": "FID of the reconstructions",
    "precision": "the share of generated images that look like some real one",
    "recall": "the share of real images that look like some generated one",
    "density": "how many real images a generated one resembles; may exceed 1",
    "coverage": "the share of real images that a generated one resembles",
    "entropy": "how evenly an image uses its grey levels, in bits",
    "diversity": "how much two generated images differ, a pixel",
    "psnr": "how close the image is to the true one, pixel by pixel, in dB",
    "ssim": "how close the image is to the true one in its local structure; 1 is equal",
    "psnr_y": "PSNR of the luminance",
    "ssim_y": "SSIM of the luminance",
    "psnr_inside": "PSNR in the holes",
    "l1_inside": "mean difference in the holes, in grey levels of 255",
    "l1_outside": "mean difference around the holes, in grey levels of 255; 0 where what is known is passed on",
    "l1": "mean difference from the true image, in grey levels of 255",
    "perceptual": "how far a network's features of the image lie from those of the true one",
    "psnr_to_teacher": "how close the image is to the teacher's of the same input, in dB",
    "ssim_to_teacher": "how close it is to the teacher's in its local structure; 1 is equal",
    "gap_to_teacher": "mean difference from the teacher's image of the same input",
    "worst_gap_to_teacher": "the same after an attack that drives the two apart",
    "decoder_gap_to_teacher": "mean difference of the two decoders' images of the same latents",
    "worst_decoder_gap_to_teacher": "the same after an attack that drives the two decoders apart",
    "bits_per_dim": "how many bits a value of an image costs under the model",
    "kl": "how much a latent says about its image, in nats",
    "active_units": "how many values of the latent vary with the image",
    "encoder_parameters": "the parameters of the encoder",
    "decoder_parameters": "the parameters of the decoder",
    "encoder_swap_psnr_to_teacher": "PSNR of the teacher's decoder on the student's latents, in dB",
    "decoder_swap_psnr_to_teacher": "PSNR of the student's decoder on the teacher's latents, in dB",
    "top1": "the share of images whose class is named first",
    "top5": "the share of images whose class is among the first five named",
    "nll": "how unlikely the true class seems to the network, in nats",
    "ece": "how far its confidence is from how often it is right",
    "brier": "squared distance of its probabilities from the truth",
    "agreement": "the share of answers that are the teacher's",
    "kl_to_teacher": "how far its probabilities are from the teacher's, in nats",
    "robust": "accuracy after the attack that stands under the name",
    "masking": "by how much weak attacks beat strong ones: above 0.05 gradients are hidden and robustness is flattered",
    "miou": "overlap of found and true regions over their union, mean over classes",
    "robust_miou": "the same under attack",
    "pixel_accuracy": "the share of pixels whose class is right",
    "boundary_f1": "how well the borders of regions are met",
    "edge_f1": "how well edges are met",
    "content": "how far the painting's content is from the photograph's, by a network's features",
    "style": "how far the painting's textures are from the style's, by a network's features",
    "total": "content and weighted style together",
    "stability": "how alike an image moved by one pixel is painted, in dB",
}


def meaning(metric: str) -> str:
    """Return what a metric means in a sentence, by its full name, or "" where none is known."""
    return MEANINGS.get(base_name(metric), "")
